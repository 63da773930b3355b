"""Feature state in memory: for `driftloop check`, users' tests, and as the reference for Redis.

Plain lists and `bisect`: it computes each window as it reads, where Redis keeps sums up to date.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from math import fsum, nan, sqrt

import numpy as np

from streams.adapters.fold_journal import Answer, check, first_answered, recall, since
from streams.errors import StateBehind
from streams.ports.features import (
    LEFT_EVENTS,
    MOST_EVENTS,
    FoldBatch,
    Folded,
    LabelBatch,
    LabelsFolded,
    concatenate,
)
from streams.spec.windows import FoldPlan, KeyPlan, Kind, Scan


class LabelOutcome(IntEnum):
    """What became of a label. Of an event's several entities, the highest counts."""

    EXPIRED = 0
    ADDED = 1
    LATE = 2


class MemoryFeatureState:
    """`FeatureState` in lists, which nothing outlives. Never raises `Unavailable`."""

    def __init__(self, plan: FoldPlan) -> None:
        self._plan = plan
        self._columns = [
            [plan.values.index(value) for value in (*key.values, *key.scanned)] for key in plan.keys
        ]
        self._classes = [
            [plan.classes.index(one) for one in key.classes] for key in plan.keys if key.labels
        ]
        self._nothing = plan.nothing
        self._entities: list[dict[bytes, _Entity]] = [{} for _ in plan.keys]
        self._fences: dict[int, int] = {}
        self._label_fences: dict[tuple[str, int], int] = {}
        self._label_notes: dict[tuple[str, int], bytes] = {}
        self._answers: dict[int, list[Answer]] = defaultdict(list)
        self._whole = False

    async def fold(self, batch: FoldBatch) -> Folded:
        """Count events in; see `streams.ports.features.FeatureState.fold`."""
        check(self._plan, batch)
        fence = self._fences.get(batch.partition, 0)
        if fence < batch.first or (batch.whole and not self._whole):
            raise StateBehind(batch.partition, fence, batch.first)
        if fence == batch.first:
            return self._fold(batch)
        known = recall(self._answers[batch.partition], batch, fence, self._plan.width)
        if batch.next <= fence:
            return known
        return concatenate([known, self._fold(since(batch, fence))])

    def _fold(self, batch: FoldBatch) -> Folded:
        aggregates = np.tile(self._nothing, (len(batch.offsets), 1))
        duplicate = np.zeros(len(batch.offsets), np.bool_)
        for row, (time, event_id) in enumerate(
            zip(batch.times.tolist(), batch.ids.tolist(), strict=True)
        ):
            entities = [
                held.setdefault(names[row], _Entity(key))
                for key, held, names in zip(
                    self._plan.keys, self._entities, batch.entities, strict=True
                )
            ]
            duplicate[row] = entities[0].knows(time, event_id)
            if duplicate[row]:
                continue
            values = batch.values[row].tolist()
            aggregates[row] = [
                number
                for entity, columns in zip(entities, self._columns, strict=True)
                for number in entity.add(time, event_id, [values[column] for column in columns])
            ]
        folded = Folded(aggregates, duplicate)
        kept = [old for old in self._answers[batch.partition] if old.next > batch.committed]
        self._answers[batch.partition] = [*kept, Answer(batch.next, batch.offsets, folded)]
        self._fences[batch.partition] = batch.next
        return folded

    async def fold_labels(self, batch: LabelBatch) -> LabelsFolded:
        """Add labels; see `streams.ports.features.FeatureState.fold_labels`."""
        source = (batch.stream, batch.partition)
        fence = self._label_fences.get(source, 0)
        if fence < batch.first:
            raise StateBehind(batch.partition, fence, batch.first)
        held = [h for h, key in zip(self._entities, self._plan.keys, strict=True) if key.labels]
        outcomes: Counter[LabelOutcome] = Counter()
        for row in np.flatnonzero(batch.offsets >= fence).tolist():
            time, delta = int(batch.times[row]), float(batch.deltas[row])
            by_class = [] if batch.by_class is None else batch.by_class[row].tolist()
            found = [
                entities[names[row]].label(time, [delta, *(by_class[one] for one in classes)])
                for entities, names, classes in zip(
                    held, batch.entities, self._classes, strict=True
                )
                if names[row] in entities
            ]
            outcomes[max(found, default=LabelOutcome.EXPIRED)] += 1
        if batch.next > fence or source not in self._label_fences:
            self._label_fences[source], self._label_notes[source] = batch.next, batch.note
        return LabelsFolded(
            outcomes[LabelOutcome.ADDED],
            outcomes[LabelOutcome.LATE],
            outcomes[LabelOutcome.EXPIRED],
        )

    async def position(self, partition: int) -> int | None:
        """The next offset that the partition's fold expects; None when it never folded."""
        return self._fences.get(partition)

    async def answered(self, partition: int) -> int | None:
        """The first offset of which the answer is kept, or the next one where none is kept."""
        return first_answered(self._answers[partition], self._fences.get(partition))

    async def label_note(self, partition: int, stream: str = "feedback") -> bytes:
        """The note of the batch that moved a stream's fence last."""
        return self._label_notes.get((stream, partition), b"")

    async def reposition(self, partition: int, offset: int) -> None:
        """Move the fence forward; an offset below it changes nothing."""
        self._fences[partition] = max(offset, self._fences.get(partition, 0))

    async def whole(self) -> bool:
        """Whether the state has been declared whole."""
        return self._whole

    async def declare_whole(self, ends: Mapping[int, int]) -> bool:
        """Declare it whole, unless a partition's fence is below its end."""
        self._whole = all(self._fences.get(number, 0) >= end for number, end in ends.items())
        return self._whole

    async def close(self) -> None:
        """Nothing was opened."""


def _deviation(values: Sequence[float]) -> float:
    mean = fsum(values) / len(values)
    return sqrt(fsum((value - mean) ** 2 for value in values) / len(values))


_FOUND: Mapping[Kind, Callable[[Sequence[float]], float]] = {
    Kind.MIN: min,
    Kind.MAX: max,
    Kind.STD: _deviation,
    Kind.DISTINCT: lambda values: float(len(set(values))),
}


class _Entity:
    """An entity's events in time order. Events of the same second stay in the order they came."""

    def __init__(self, plan: KeyPlan) -> None:
        self._plan = plan
        self._last = 0
        self._times: list[int] = []
        self._ids: list[int] = []
        self._rows: list[list[float]] = []
        self._scanned: list[list[float]] = []

    def knows(self, time: int, event_id: int) -> bool:
        """Whether the event came before, within `remember` seconds of the newest event time."""
        oldest = max(self._last, time) - self._plan.remember
        return event_id in self._ids[bisect_right(self._times, oldest) :]

    def add(self, time: int, event_id: int, values: Sequence[float]) -> list[float]:
        """Count an event in; returns the key plan's aggregates as of its time.

        `values` are the summed ones, then the scanned ones. An event that is older than everything
        that is kept is not counted: its windows are empty.
        """
        summed, columns = len(self._plan.values), self._plan.columns
        self._last = max(self._last, time)
        at = bisect_right(self._times, time)
        self._times.insert(at, time)
        self._ids.insert(at, event_id)
        self._rows.insert(at, [*values[:summed], *[0.0] * (columns - summed)])
        self._scanned.insert(at, list(values[summed:]))
        self._forget(bisect_right(self._times, self._last - self._plan.kept))
        ends = [bisect_right(self._times, time - age) for age in self._plan.edges]
        found = [
            number
            for newer, older in self._plan.windows
            for number in self._aggregate(ends[older], ends[newer])
        ]
        found += [self._scan(scan, ends, time) for scan in self._plan.scans]
        if len(self._times) > MOST_EVENTS:
            self._forget(len(self._times) - LEFT_EVENTS)
        return found

    def _forget(self, gone: int) -> None:
        del self._times[:gone], self._ids[:gone], self._rows[:gone], self._scanned[:gone]

    def _aggregate(self, start: int, end: int) -> list[float]:
        rows, columns = self._rows[start:end], range(self._plan.columns)
        return [float(end - start), *(fsum(row[c] for row in rows) for c in columns)]

    def _scan(self, scan: Scan, ends: Sequence[int], time: int) -> float:
        end, start = (ends[edge] for edge in scan.window)
        at = start if scan.kind == Kind.FIRST else end - scan.back
        if at < start or start == end:
            return nan
        if scan.kind == Kind.SINCE:
            return float(time - self._times[at])
        column = self._plan.scanned.index(scan.field)
        if scan.kind in (Kind.FIRST, Kind.BACK):
            return self._scanned[at][column]
        return _FOUND[scan.kind]([row[column] for row in self._scanned[start:end]])

    def label(self, time: int, deltas: Sequence[float]) -> LabelOutcome:
        """Add a label to an event of that time; which of several does not matter to any window."""
        at = bisect_left(self._times, time)
        if at == len(self._times) or self._times[at] != time:
            return LabelOutcome.EXPIRED
        for column, delta in enumerate(deltas, len(self._plan.values)):
            self._rows[at][column] += delta
        late = time <= self._last - self._plan.label_age
        return LabelOutcome.LATE if late else LabelOutcome.ADDED
