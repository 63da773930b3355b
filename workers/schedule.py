"""When a candidate is due, and which offsets it learns from: pure, given what has been read.

Everything goes by the event time of matured examples, on a fixed grid (`every` apart from the last
decision), so that a replay of the same topics makes the same candidates from the same offsets.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.spec import Retrain
from workers.examples import Window
from workers.slices import Slices, slices_at


@dataclass(frozen=True)
class Due:
    """A candidate that should be made now."""

    watermark: float
    """Labels are mature up to this event time."""
    window: Window
    slices: Slices


@dataclass
class _Partition:
    """Offset, event time and label of the examples read of a partition, in offset order."""

    offsets: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    times: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    labels: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    latest: float = -math.inf

    def keep(self, rows: NDArray[np.bool_]) -> None:
        self.offsets, self.times, self.labels = (
            self.offsets[rows],
            self.times[rows],
            self.labels[rows],
        )


class Index:
    """Which example lies where; 20 bytes each, bounded by what `forget` leaves."""

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}
        self.earliest = math.inf
        """Smallest event time ever added."""

    def add(
        self,
        partition: int,
        offsets: NDArray[np.int64],
        times: NDArray[np.float64],
        labels: NDArray[np.float32],
    ) -> None:
        """Add examples of one partition, in offset order."""
        if not len(offsets):
            return
        one = self._partitions.setdefault(partition, _Partition())
        one.offsets = np.concatenate([one.offsets, offsets])
        one.times = np.concatenate([one.times, times])
        one.labels = np.concatenate([one.labels, labels])
        one.latest = max(one.latest, float(times.max()))
        self.earliest = min(self.earliest, float(times.min()))

    def __len__(self) -> int:
        return sum(len(one.offsets) for one in self._partitions.values())

    def watermark(self, expected: Set[int], idle: float) -> float:
        """Event time up to which every partition's labels are mature; -inf where there is none.

        That is the least of the partitions' largest event times. A partition that is more than
        `idle` seconds behind the others is taken to have stopped and does not hold them up; so is
        one of the `expected` that has no example yet, counted from the earliest of all.
        """
        latest = dict.fromkeys(expected, self.earliest)
        latest.update({p: one.latest for p, one in self._partitions.items()})
        if not latest or not math.isfinite(self.earliest):
            return -math.inf
        newest = max(latest.values())
        return min(at for at in latest.values() if at >= newest - idle)

    def window(self, start: float, end: float) -> Window:
        """The offsets that hold the examples with event time in [start, end), and their
        corrections up to the first later example: the same however far has been read since."""
        ranges = {}
        for partition, one in sorted(self._partitions.items()):
            inside = (one.times >= start) & (one.times < end)
            if not inside.any():
                continue
            first = int(one.offsets[np.argmax(inside)])
            later = (one.times >= end) & (one.offsets > first)
            after = one.offsets[np.argmax(later)] if later.any() else one.offsets[-1] + 1
            ranges[partition] = (first, int(after))
        return Window(ranges)

    def labels(self, span: tuple[float, float]) -> NDArray[np.float32]:
        """Labels of the examples with event time in [from, to)."""
        found = [
            one.labels[(one.times >= span[0]) & (one.times < span[1])]
            for one in self._partitions.values()
        ]
        return np.concatenate([np.empty(0, np.float32), *found])

    def forget(self, before: float) -> None:
        """Drop examples older than an event time."""
        for one in self._partitions.values():
            one.keep(one.times >= before)


def due(
    policy: Retrain, index: Index, decided: float, expected: Set[int], classes: int
) -> Due | None:
    """The candidate to make now; None where there is none to make yet.

    `decided` is the label watermark of the last candidate; 0 before the first, which is due `every`
    after the earliest example.
    """
    watermark = index.watermark(expected, idle=policy.window_seconds)
    since = decided or index.earliest
    steps = math.floor((watermark - since) / policy.every_seconds) if watermark > since else 0
    if steps < 1:
        return None
    target = since + steps * policy.every_seconds
    slices = slices_at(policy, target)
    if not _enough(policy, index, slices, classes):
        return None
    return Due(target, index.window(slices.train[0], slices.evaluate[1]), slices)


def _enough(policy: Retrain, index: Index, slices: Slices, classes: int) -> bool:
    """Whether a training run would not refuse for want of examples (corrections count twice)."""
    counts = _counts(index.labels(slices.train), classes)
    if sum(counts) < policy.least_examples or min(counts) < policy.least_positives:
        return False
    spans = (slices.validate, slices.evaluate)
    return all(np.count_nonzero(_counts(index.labels(span), classes)) >= 2 for span in spans)


def _counts(labels: NDArray[np.float32], classes: int) -> list[int]:
    return [int(np.count_nonzero(labels == one)) for one in range(classes)]
