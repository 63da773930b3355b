"""Window features compiled to a plan that a feature state can execute.

Per key field, a state keeps each entity's events in time order and, for a few *edges* (ages in
seconds), how many events are at least that old and the sums of their values. A window between two
edges is then a difference: its cost does not depend on how many events it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from streams.spec.events import Event
from streams.spec.features import LabelRate, Mean, Sum, Window

LAG = 86_400
"""A day: for entities that are not the topic's key, whose events come from several partitions."""

Select = Callable[[NDArray[np.float64]], NDArray[np.float64]]


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
    """Whether labels are summed too (as one more value, filled in when feedback arrives)."""
    windows: tuple[tuple[int, int], ...]
    """Windows asked for, as (newer edge, older edge) indices into `edges`."""
    remember: int = 0
    """Seconds that event ids are remembered here, to drop repeated events; 0 for not at all."""
    label_age: int = 0
    """Age at which the first label window counts an event: a label that comes later is late."""
    lag: int = 0
    """Seconds of event time that one partition may be behind another: so much longer than its
    oldest edge an event is kept, for windows of events that come late."""

    @property
    def kept(self) -> int:
        """Seconds that an event is kept after the entity's newest; 0 where nothing is kept."""
        return max(self.edges[-1] + self.lag if self.edges else 0, self.remember)

    @property
    def width(self) -> int:
        """Numbers returned per event: for each window its count, then one sum per value/label."""
        return len(self.windows) * (1 + len(self.values) + int(self.labels))


@dataclass(frozen=True)
class FoldPlan:
    """All key plans of a pipeline. The first is the event's key, which also finds duplicates."""

    keys: tuple[KeyPlan, ...]

    @property
    def width(self) -> int:
        """Numbers a fold returns per event: the key plans' widths, side by side."""
        return sum(plan.width for plan in self.keys)

    @property
    def values(self) -> tuple[str, ...]:
        """Every field that some key sums, once, in a fixed order: the columns of fold values."""
        return tuple(dict.fromkeys(value for plan in self.keys for value in plan.values))

    @property
    def counts(self) -> dict[str, tuple[int, ...]]:
        """Where in a fold's answer the counts of a key's windows are."""
        found, start = dict[str, tuple[int, ...]](), 0
        for key in self.keys:
            stride = 1 + len(key.values) + int(key.labels)
            found[key.key] = tuple(range(start, start + key.width, stride))
            start += key.width
        return found

    @property
    def label_keys(self) -> tuple[str, ...]:
        """The key fields whose entities take labels."""
        return tuple(plan.key for plan in self.keys if plan.labels)


def compile_plan(event: Event, windows: Sequence[Window], remember: int) -> FoldPlan:
    """The plan for these window features; `remember` is in event-time seconds."""
    keys = dict.fromkeys([event.key, *(window.key for window in windows)])
    return FoldPlan(
        tuple(
            _key_plan(
                key,
                [window for window in windows if window.key == key],
                remember if key == event.key else 0,
                own=key == event.key,
            )
            for key in keys
        )
    )


def _key_plan(key: str, windows: Sequence[Window], remember: int, own: bool) -> KeyPlan:
    ages = {age for window in windows for age in (window.newest, window.oldest)}
    edges = tuple(sorted(ages))
    spans = dict.fromkeys((edges.index(w.newest), edges.index(w.oldest)) for w in windows)
    labels = [window for window in windows if isinstance(window, LabelRate)]
    return KeyPlan(
        key=key,
        edges=edges,
        values=tuple(dict.fromkeys(w.of for w in windows if w.of)),
        labels=bool(labels),
        windows=tuple(spans),
        remember=remember,
        lag=0 if own else LAG,
        label_age=min((window.newest for window in labels), default=0),
    )


def select(plan: FoldPlan, window: Window) -> Select:
    """How one window feature is read out of what a fold returns: [n, plan.width] to [n]."""
    start = 0
    for key in plan.keys:
        if key.key == window.key:
            break
        start += key.width
    stride = 1 + len(key.values) + int(key.labels)
    span = (key.edges.index(window.newest), key.edges.index(window.oldest))
    start += key.windows.index(span) * stride
    match window:
        case Sum():
            return partial(_column, start + 1 + key.values.index(window.of))
        case Mean():
            return partial(_ratio, start + 1 + key.values.index(window.of), start)
        case LabelRate():
            return partial(_ratio, start + stride - 1, start)
        case _:
            return partial(_column, start)


def _column(at: int, folded: NDArray[np.float64]) -> NDArray[np.float64]:
    column: NDArray[np.float64] = folded[:, at]
    return column


def _ratio(total: int, count: int, folded: NDArray[np.float64]) -> NDArray[np.float64]:
    return folded[:, total] / np.maximum(folded[:, count], 1)  # a total of no events is 0
