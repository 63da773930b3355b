"""Window features compiled to a plan that a feature state can execute.

Per key field, a state keeps each entity's events in time order and, for a few *edges* (ages in
seconds), how many events are at least that old and the sums of their values. A window between two
edges is then a difference: its cost does not depend on how many events it holds. What is no
difference is *scanned*: found among the window's events, whose values are kept as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from streams.spec.aggregates import (
    CountDistinct,
    First,
    LabelRate,
    Lag,
    Last,
    Max,
    Mean,
    Min,
    Std,
    Sum,
    TimeSince,
    Window,
)
from streams.spec.events import Event
from streams.spec.fields import numeric

LAG = 86_400
"""A day: for entities that are not the topic's key, whose events come from several partitions."""

Select = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Kind(IntEnum):
    """What a scan finds in a window; as the server's functions number it."""

    MIN = 1
    MAX = 2
    STD = 3
    DISTINCT = 4
    FIRST = 5
    BACK = 6
    """The value of an event that is so many before the window's end."""
    SINCE = 7
    """The seconds from such an event to this one."""


@dataclass(frozen=True)
class Scan:
    """A number that is found among the events of a window; NaN where they are too few."""

    kind: Kind
    window: tuple[int, int]
    """(newer edge, older edge), indices into the plan's `edges`."""
    field: str = ""
    """Whose values; empty where times alone count."""
    back: int = 0
    """Of BACK and SINCE: how many events before the window's end, 1 for its newest."""


@dataclass(frozen=True)
class KeyPlan:
    """What is kept for each entity of one key field."""

    key: str
    """Name of the key field."""
    edges: tuple[int, ...]
    """Ages in seconds, ascending, distinct. An event is dropped once older than the last."""
    values: tuple[str, ...]
    """Fields that are summed."""
    labels: bool
    """Whether labels are summed too (one more column, filled in when feedback arrives)."""
    windows: tuple[tuple[int, int], ...]
    """Windows asked for, as (newer edge, older edge) indices into `edges`."""
    remember: int = 0
    """Seconds that event ids are remembered here, to drop repeated events; 0 for not at all."""
    label_age: int = 0
    """Age at which the first label window counts an event: a label that comes later is late."""
    lag: int = 0
    """Seconds of event time that one partition may be behind another: so much longer than its
    oldest edge an event is kept, for windows of events that come late."""
    classes: tuple[int, ...] = ()
    """Classes whose labels are counted: one more column each, after that of the labels' sum."""
    scanned: tuple[str, ...] = ()
    """Fields whose values are kept for scans."""
    scans: tuple[Scan, ...] = ()

    @property
    def columns(self) -> int:
        """How many sums there are: of each value, of the label, and of each class."""
        return len(self.values) + int(self.labels) + len(self.classes)

    @property
    def kept(self) -> int:
        """Seconds that an event is kept after the entity's newest; 0 where nothing is kept."""
        return max(self.edges[-1] + self.lag if self.edges else 0, self.remember)

    @property
    def width(self) -> int:
        """Numbers returned per event: for each window its count and its sums, then the scans."""
        return len(self.windows) * (1 + self.columns) + len(self.scans)


@dataclass(frozen=True)
class FoldPlan:
    """All key plans of a pipeline. The first is the event's key, which also finds duplicates."""

    keys: tuple[KeyPlan, ...]
    texts: frozenset[str] = frozenset()
    """Scanned fields that hold no numbers: folded as a hash of how a value is spelt."""

    @property
    def width(self) -> int:
        """Numbers a fold returns per event: the key plans' widths, side by side."""
        return sum(plan.width for plan in self.keys)

    @property
    def values(self) -> tuple[str, ...]:
        """Every field that some key sums or scans, once, in a fixed order: a fold's columns."""
        summed = [value for plan in self.keys for value in plan.values]
        return tuple(dict.fromkeys(summed + [one for plan in self.keys for one in plan.scanned]))

    @property
    def classes(self) -> tuple[int, ...]:
        """Every class that some key counts, once, in a fixed order."""
        return tuple(dict.fromkeys(one for plan in self.keys for one in plan.classes))

    @property
    def nothing(self) -> NDArray[np.float64]:
        """[width] the answer to an event that is not counted: no window has any event."""
        sums = [(key.width - len(key.scans), len(key.scans)) for key in self.keys]
        return np.concatenate([np.repeat([0.0, np.nan], counts) for counts in sums])

    @property
    def counts(self) -> dict[str, tuple[int, ...]]:
        """Where in a fold's answer the counts of a key's windows are."""
        found, start = dict[str, tuple[int, ...]](), 0
        for key in self.keys:
            stop = start + key.width - len(key.scans)
            found[key.key] = tuple(range(start, stop, 1 + key.columns))
            start += key.width
        return found

    @property
    def label_keys(self) -> tuple[str, ...]:
        """The key fields whose entities take labels."""
        return tuple(plan.key for plan in self.keys if plan.labels)


def compile_plan(event: Event, windows: Sequence[Window], remember: int) -> FoldPlan:
    """The plan for these window features; `remember` is in event-time seconds."""
    keys = dict.fromkeys([event.key, *(window.key for window in windows)])
    plans = [
        _key_plan(
            key,
            [window for window in windows if window.key == key],
            remember if key == event.key else 0,
            own=key == event.key,
        )
        for key in keys
    ]
    scanned = {field for plan in plans for field in plan.scanned}
    texts = frozenset(field for field in scanned if not numeric(event.schema, field))
    return FoldPlan(tuple(plans), texts)


def _key_plan(key: str, windows: Sequence[Window], remember: int, own: bool) -> KeyPlan:
    ages = {age for window in windows for age in (window.newest, window.oldest)}
    edges = tuple(sorted(ages))
    spans = dict.fromkeys(_span(edges, window) for window in windows)
    labels = [window for window in windows if isinstance(window, LabelRate)]
    scans = [scan for window in windows if (scan := _scan(edges, window)) is not None]
    return KeyPlan(
        key=key,
        edges=edges,
        values=tuple(dict.fromkeys(w.of for w in windows if w.of and not _scan(edges, w))),
        labels=bool(labels),
        windows=tuple(spans),
        remember=remember,
        lag=0 if own else LAG,
        label_age=min((window.newest for window in labels), default=0),
        classes=tuple(dict.fromkeys(w.class_ for w in labels if w.class_ is not None)),
        scanned=tuple(dict.fromkeys(scan.field for scan in scans if scan.field)),
        # those of the same events side by side: they are gathered once
        scans=tuple(sorted(set(scans), key=attrgetter("window", "field", "kind", "back"))),
    )


def _span(edges: tuple[int, ...], window: Window) -> tuple[int, int]:
    return edges.index(window.newest), edges.index(window.oldest)


_KINDS = {
    Min: Kind.MIN,
    Max: Kind.MAX,
    Std: Kind.STD,
    CountDistinct: Kind.DISTINCT,
    First: Kind.FIRST,
    Last: Kind.BACK,
    Lag: Kind.BACK,
    TimeSince: Kind.SINCE,
}


def _scan(edges: tuple[int, ...], window: Window) -> Scan | None:
    """What has to be found among the window's events; None where sums are enough."""
    kind = _KINDS.get(type(window))
    if kind is None:
        return None
    back = 0
    if isinstance(window, Last | Lag | TimeSince):
        back = window.back + (window.newest == 0)  # this event is the window's newest
    return Scan(kind, _span(edges, window), window.of, back)


def select(plan: FoldPlan, window: Window) -> Select:
    """How one window feature is read out of what a fold returns: [n, plan.width] to [n]."""
    start = 0
    for key in plan.keys:
        if key.key == window.key:
            break
        start += key.width
    stride = 1 + key.columns
    if (scan := _scan(key.edges, window)) is not None:
        at = start + len(key.windows) * stride + key.scans.index(scan)
        return partial(_found, at, window.empty)
    start += key.windows.index(_span(key.edges, window)) * stride
    labels = start + 1 + len(key.values)
    match window:
        case Sum():
            return partial(_column, start + 1 + key.values.index(window.of))
        case Mean():
            return partial(_ratio, start + 1 + key.values.index(window.of), start)
        case LabelRate(class_=None):
            return partial(_rate, labels, start, window)
        case LabelRate(class_=int(number)):
            return partial(_rate, labels + 1 + key.classes.index(number), start, window)
        case _:
            return partial(_column, start)


def revisions(windows: Sequence[Window]) -> list[list[object]]:
    """What a vector means beyond the plan and its columns' names, by window; of those alone that
    had no such parts before, so that what others mean keeps its name."""
    found: list[list[object]] = []
    for window in windows:
        part: list[object] = [window.names, type(window).__name__, window.key, window.of]
        if type(window) in _KINDS:
            part += [window.newest, window.oldest, window.empty, getattr(window, "back", 0)]
        elif isinstance(window, LabelRate) and (window.smooth or window.class_ is not None):
            part += [window.class_, window.smooth]
        else:
            continue
        found.append(part)
    return found


def _column(at: int, folded: NDArray[np.float64]) -> NDArray[np.float64]:
    column: NDArray[np.float64] = folded[:, at]
    return column


def _found(at: int, empty: float, folded: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(folded[:, at]), empty, folded[:, at])


def _ratio(total: int, count: int, folded: NDArray[np.float64]) -> NDArray[np.float64]:
    return folded[:, total] / np.maximum(folded[:, count], 1)  # a total of no events is 0


def _rate(
    at: int, count: int, window: LabelRate, folded: NDArray[np.float64]
) -> NDArray[np.float64]:
    total, events = folded[:, at], folded[:, count]
    if window.class_ == 0:  # those of another class were counted
        total = events - total
    if window.smooth is None:
        return total / np.maximum(events, 1)
    prior, strength = window.smooth
    return (total + prior * strength) / (events + strength)
