"""From what workers and Kafka have counted to the load: rates over the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from workers.resources.decision import Measured, Servers

WINDOW_SECONDS = 5.0
"""Rates are taken over so long."""
_BEHIND_SECONDS = 1.0
"""A worker is behind when more waits than it does in this time."""
_BUSY = 0.9
"""... and it is busy for so much of its time."""


class WorkerCounts(NamedTuple):
    """What a worker has counted since it was started."""

    records: float
    """In micro-batches that are done."""
    busy: float
    """Seconds with something in hand."""
    infer: float
    """Seconds in requests to Triton, added up: several may be under way."""
    lag: float
    """Records that wait for it now."""
    partitions: float = 0.0
    """Topics' partitions that it has."""


@dataclass(frozen=True)
class LoadReading:
    """All that is known at one time."""

    at: float
    """Seconds, by a monotonic clock."""
    workers: Mapping[str, WorkerCounts]
    ends: Mapping[int, int]
    """By partition, the offset after the last record."""
    committed: Mapping[int, int]
    """By partition, the group's next offset."""
    servers: Servers = field(default_factory=Servers)
    partitions: int = 0
    """Topics' partitions that workers share; 0 where that is not known."""

    @property
    def at_rest(self) -> bool:
        """Whether workers have all partitions, and nothing waits in any."""
        found = self.workers.values()
        owned = sum(one.partitions for one in found)
        return 0 < self.partitions == owned and not any(one.lag for one in found)


class LoadMeter:
    """Takes readings, a second apart or so, and tells the load."""

    def __init__(self) -> None:
        self._readings: deque[LoadReading] = deque()
        self._rate = 0.0
        self._passed: dict[int, int] = {}
        """Up to here nothing waits, though it may not be committed: a transaction's end has an
        offset, too."""

    def take(self, reading: LoadReading, workers: int) -> Measured | None:
        """The load of so many workers; None while one of them tells nothing, or for too short."""
        readings = self._readings
        readings.append(reading)
        while len(readings) > 2 and readings[1].at <= reading.at - WINDOW_SECONDS:
            readings.popleft()
        first = readings[0]
        passed = reading.at - first.at
        if passed < WINDOW_SECONDS / 2 or len(reading.workers) < workers:
            return None
        since = {
            name: _since(first.workers.get(name), counts)
            for name, counts in reading.workers.items()
        }
        busy = {name: one.busy / passed for name, one in since.items()}
        servers = replace(_busiest([one.servers for one in readings]), waiting=_share(since))
        if all(one.at_rest for one in readings):
            self._passed = dict(first.ends)
        if not servers.away:  # who waits for a server shows nothing of what it can do
            self._learn(since, passed)
        return Measured(
            workers,
            _arrivals(first, reading, passed),
            {p: float(self._waiting(reading, p)) for p in reading.ends},
            self._rate,
            sum(busy.values()) / max(1, len(busy)),
            servers,
        )

    def _waiting(self, reading: LoadReading, partition: int) -> int:
        end = reading.ends[partition]
        done = max(reading.committed.get(partition, end), self._passed.get(partition, 0))
        return max(0, end - done)

    def _learn(self, since: Mapping[str, WorkerCounts], passed: float) -> None:
        """What a worker can do: what those did that were behind; what any did is the least."""
        behind = [
            one
            for one in since.values()
            if one.records
            and one.busy >= _BUSY * passed
            and one.lag > _BEHIND_SECONDS * one.records / passed
        ]
        if behind:
            self._rate = sum(one.records for one in behind) / sum(one.busy for one in behind)
        elif self._rate:
            best = max((one.records / one.busy for one in since.values() if one.busy), default=0.0)
            self._rate = max(self._rate, best)


def _since(before: WorkerCounts | None, now: WorkerCounts) -> WorkerCounts:
    """What was counted meanwhile; all, of a worker that has been started since."""
    if before is None or before.records > now.records or before.busy > now.busy:
        return now
    return WorkerCounts(
        now.records - before.records,
        now.busy - before.busy,
        now.infer - before.infer,
        now.lag,
        now.partitions,
    )


def _busiest(seen: Sequence[Servers]) -> Servers:
    """The most that each server was used lately: one that rests for a moment is still full."""
    last = seen[-1]
    return replace(
        last,
        triton={
            endpoint: max(one.triton[endpoint] for one in seen if endpoint in one.triton)
            for endpoint in last.triton
        },
        redis=max(one.redis for one in seen),
        cpu=max(one.cpu for one in seen),
    )


def _share(since: Mapping[str, WorkerCounts]) -> float:
    """The share of the workers' busy time that went into Triton."""
    busy = sum(one.busy for one in since.values())
    return min(1.0, sum(one.infer for one in since.values()) / busy) if busy else 0.0


def _arrivals(first: LoadReading, last: LoadReading, passed: float) -> dict[int, float]:
    """By partition; of a topic that was made anew, nothing is known yet."""
    found = {}
    for partition, end in last.ends.items():
        before = first.ends.get(partition, end)
        found[partition] = max(0, end - before) / passed
    return found
