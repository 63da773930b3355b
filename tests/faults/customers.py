"""A customer's windows from first principles: the events in a window, looked at one by one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from statistics import pstdev

DAY = 86_400
WINDOWS = (DAY, 7 * DAY, 30 * DAY)
"""How long card fraud's windows are."""
Paid = tuple[int, tuple[float, str]]
"""When; how much, and at which terminal."""


def counts_and_means(events: Sequence[Paid], at: int) -> list[float]:
    """Card fraud's own features of events in time order, as of a time."""
    features: list[float] = []
    for over in WINDOWS:
        amounts = [amount for _, (amount, _) in _window(events, at, over)]
        features += [float(len(amounts)), sum(amounts) / max(1, len(amounts))]
    return features


def of_events(events: Sequence[Paid], at: int) -> tuple[float, ...]:
    """The features of `tests.faults.watched.customers`, in their order."""
    week = _window(events, at, 7 * DAY)
    month = _window(events, at, 30 * DAY)
    older = _window(events, at, 30 * DAY, DAY)
    amounts = [amount for _, (amount, _) in week]
    return (
        min(amounts),
        max(amounts),
        pstdev(amounts),
        float(len({terminal for _, (_, terminal) in week})),
        amounts[0],
        older[-1][1][0] if older else -1.0,
        month[-3][1][0] if len(month) > 2 else -1.0,
        float(at - week[-2][0] if len(week) > 1 else 7 * DAY),
    )


def _window(events: Sequence[Paid], at: int, over: int, delay: int = 0) -> Sequence[Paid]:
    start = bisect_right(events, at - delay - over, key=itemgetter(0))
    return events[start : bisect_right(events, at - delay, key=itemgetter(0))]
