"""What a process has used: readings of it, added up by day. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

DAY = 86_400
GIB = 1 << 30
_HOUR = 3600.0


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`P.costs`: what one process has used on one day (UTC), from its first second to now.

    The record's key names process and day. A later record replaces the earlier one, so that one
    which comes twice, or never, changes no sum.
    """

    process: str
    """`<host>-<process id>-<when it started>`: no other process has it."""
    role: str
    """`score`, `label`, `evaluate`, `shadow`, `trainer`; `training` for one training run; `up`, and
    `kafka`, `controller`, `triton`, `redis` for the servers that it runs."""
    host: str
    day: float
    """When the day began, seconds since 1970."""
    start: float
    """Time of day of the first reading, as the host's clock had it."""
    until: float
    """Time of day of the last reading."""
    seconds: float
    """For which it ran, by a clock that is never set."""
    cpu_seconds: float
    """Of user and system, with its children that have no records of their own."""
    gib_hours: float
    """Resident memory over time; what processes share is counted for each of them."""
    gpu_seconds: float = 0.0
    """For which it held a GPU, times the number of GPUs."""
    cpus: float = 0.0
    """CPUs that are reserved for it, used or not; 0 where that is not known."""
    gib: float = 0.0
    """Memory that is reserved for it."""
    events: int = 0
    """Records that it has read."""
    predictions: dict[int, int] = {}
    """Version -> predictions made; 0 for the fallback."""
    version: int = 0
    """Of a training run: the version that it became; 0 for none."""
    outcome: str = ""
    """Of a training run: `promote` and so on, as the ledger has it; `failed`; empty while it
    runs."""

    @property
    def key(self) -> str:
        """What it shares with the records that it replaces."""
        return f"{self.process}/{int(self.day) // DAY}"


class MeterReading(NamedTuple):
    """What a process has used since it started."""

    at: float
    """Time of day, seconds since 1970."""
    clock: float
    """By a clock that never goes back, seconds."""
    cpu_seconds: float
    memory: int
    """Resident now, bytes."""
    gpus: int = 0
    """That it holds now."""
    events: int = 0
    predictions: Mapping[int, int] = {}


class Account:
    """Adds up the readings of one process."""

    def __init__(
        self, process: str, role: str, host: str, first: MeterReading, reserved: tuple[float, float]
    ) -> None:
        """Counts what is used after `first`; `reserved` are CPUs and GiB, 0 where not known."""
        self._process, self._role, self._host = process, role, host
        self._reserved = reserved
        self._last = first
        self._days: dict[int, Usage] = {}
        self._changed: set[int] = set()

    def take(self, now: MeterReading) -> None:
        """Count what was used since the last reading to the day on which that was made."""
        last, self._last = self._last, now
        day = int(last.at // DAY)
        was = self._days.get(day) or self._new(day, last.at)
        elapsed = max(0.0, now.clock - last.clock)
        predictions = dict(was.predictions)
        for version, made in now.predictions.items():
            if more := max(0, made - last.predictions.get(version, 0)):
                predictions[version] = predictions.get(version, 0) + more
        self._days[day] = msgspec.structs.replace(
            was,
            start=min(was.start, last.at),
            until=max(was.until, now.at),
            seconds=was.seconds + elapsed,
            # a tree of processes shows less when a child has ended that nobody waited for
            cpu_seconds=was.cpu_seconds + max(0.0, now.cpu_seconds - last.cpu_seconds),
            gib_hours=was.gib_hours + (now.memory + last.memory) / 2 / GIB * elapsed / _HOUR,
            gpu_seconds=was.gpu_seconds + last.gpus * elapsed,
            events=was.events + max(0, now.events - last.events),
            predictions=predictions,
        )
        self._changed.add(day)

    def end(self, outcome: str, version: int = 0) -> None:
        """Say what a training run has become, in the records of all its days."""
        for day, was in self._days.items():
            self._days[day] = msgspec.structs.replace(was, outcome=outcome, version=version)
        self._changed = set(self._days)

    @property
    def last(self) -> MeterReading:
        """The last reading that was taken."""
        return self._last

    @property
    def records(self) -> list[Usage]:
        """A record for each day, as it is now."""
        return list(self._days.values())

    def changed(self) -> list[Usage]:
        """The records that have changed since `written` was called for them."""
        return [self._days[day] for day in sorted(self._changed)]

    def written(self, records: list[Usage]) -> None:
        """These are on the topic."""
        for one in records:
            day = int(one.day) // DAY
            if self._days[day] == one:
                self._changed.discard(day)

    def _new(self, day: int, at: float) -> Usage:
        cpus, gib = self._reserved
        return Usage(
            process=self._process,
            role=self._role,
            host=self._host,
            day=float(day * DAY),
            start=at,
            until=at,
            seconds=0.0,
            cpu_seconds=0.0,
            gib_hours=0.0,
            cpus=cpus,
            gib=gib,
        )
