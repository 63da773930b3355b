"""Window aggregates computed from first principles: all events of a key, masked, summed, sorted.

Slow, and independent of the adapters on purpose: it forgets nothing and keeps no running figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import attrgetter
from statistics import pstdev

import numpy as np
from numpy.typing import NDArray

from streams.ports.features import FoldBatch, LabelBatch
from streams.spec.windows import FoldPlan, KeyPlan, Kind, Scan


@dataclass
class SliceColumns:
    """One counted event of one entity."""

    time: int
    event_id: int
    values: dict[str, float]
    labels: list[float]


@dataclass
class BruteForce:
    """What a feature state must answer."""

    plan: FoldPlan
    seen: dict[tuple[str, bytes], list[SliceColumns]] = field(default_factory=dict)

    def fold(self, batch: FoldBatch) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Aggregates [n, plan.width] and duplicate flags [n] of a batch of new events."""
        aggregates = np.tile(self.plan.nothing, (len(batch.offsets), 1))
        duplicate = np.zeros(len(batch.offsets), bool)
        for row in range(len(batch.offsets)):
            time, event_id = int(batch.times[row]), int(batch.ids[row])
            lists = [
                self.seen.setdefault((key.key, names[row]), [])
                for key, names in zip(self.plan.keys, batch.entities, strict=True)
            ]
            remember = self.plan.keys[0].remember
            newest = max([time, *(event.time for event in lists[0])])
            duplicate[row] = any(
                event.event_id == event_id and event.time > newest - remember for event in lists[0]
            )
            if duplicate[row]:
                continue
            numbers: list[float] = []
            for key, events in zip(self.plan.keys, lists, strict=True):
                values = dict(zip(self.plan.values, batch.values[row].tolist(), strict=True))
                events.append(SliceColumns(time, event_id, values, [0.0] * (1 + len(key.classes))))
                numbers += self._aggregates(key, events, time)
                numbers += [self._found(key, scan, events, time) for scan in key.scans]
            aggregates[row] = numbers
        return aggregates, duplicate

    @staticmethod
    def _aggregates(key: KeyPlan, events: list[SliceColumns], time: int) -> list[float]:
        times = np.array([event.time for event in events])
        visible = times > times.max() - key.kept
        columns = [np.array([event.values[name] for event in events]) for name in key.values]
        if key.labels:
            columns += list(np.array([event.labels for event in events]).T)
        numbers: list[float] = []
        for newer, older in key.windows:
            inside = (
                visible & (times > time - key.edges[older]) & (times <= time - key.edges[newer])
            )
            numbers += [float(inside.sum()), *(math.fsum(column[inside]) for column in columns)]
        return numbers

    @staticmethod
    def _found(key: KeyPlan, scan: Scan, events: list[SliceColumns], time: int) -> float:
        newer, older = (key.edges[edge] for edge in scan.window)
        newest = max(event.time for event in events)
        window = sorted(  # of one second: as they came
            (e for e in events if time - older < e.time <= time - newer), key=attrgetter("time")
        )
        window = [event for event in window if event.time > newest - key.kept]
        if not window or len(window) < scan.back:
            return math.nan
        match scan.kind:
            case Kind.FIRST:
                return window[0].values[scan.field]
            case Kind.BACK:
                return window[-scan.back].values[scan.field]
            case Kind.SINCE:
                return time - window[-scan.back].time
        values = [event.values[scan.field] for event in window]
        if scan.kind == Kind.STD:
            return pstdev(values)
        if scan.kind == Kind.DISTINCT:
            return len(set(values))
        return min(values) if scan.kind == Kind.MIN else max(values)

    def fold_labels(self, batch: LabelBatch) -> tuple[int, int, int]:
        """(added, late, expired) of a batch of new labels."""
        counts = [0, 0, 0]
        keys = [key for key in self.plan.keys if key.labels]
        for row in range(len(batch.offsets)):
            outcomes = []
            for key, names in zip(keys, batch.entities, strict=True):
                events = self.seen.get((key.key, names[row]), [])
                newest = max((event.time for event in events), default=0)
                time = int(batch.times[row])
                match = [e for e in events if e.time == time and e.time > newest - key.kept]
                if match:
                    match[0].labels[0] += float(batch.deltas[row])
                    for place, number in enumerate(key.classes, 1):
                        assert batch.by_class is not None
                        column = self.plan.classes.index(number)
                        match[0].labels[place] += float(batch.by_class[row, column])
                    outcomes.append(1 if time <= newest - key.label_age else 0)
            counts[max(outcomes, default=2)] += 1
        return counts[0], counts[1], counts[2]
