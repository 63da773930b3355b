"""Where each example of `P.examples` lies, so that a candidate's offsets can be named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from streams.kafka.reading import TopicFollower
from streams.ports.batches import SourceRecord
from streams.settings import Settings
from streams.spec import Pipeline
from streams.versions import Logged
from workers.examples.reading import OffsetRanges, decode_many, is_dated

log = structlog.get_logger(__name__)


class _Dated(msgspec.Struct, frozen=True):
    event_time: float
    label: float
    vector: bytes
    schema: str = ""


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

    def window(self, start: float, end: float) -> OffsetRanges:
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
        return OffsetRanges(ranges)

    def labels(self, span: tuple[float, float]) -> NDArray[np.float32]:
        """Labels of the examples with event time in [from, to)."""
        found = [
            one.labels[(one.times >= span[0]) & (one.times < span[1])]
            for one in self._partitions.values()
        ]
        return np.concatenate([np.empty(0, np.float32), *found])

    def forget_below(self, starts: Mapping[int, int]) -> int:
        """Drop what lies below these offsets, by partition; returns how many examples it was."""
        before = len(self)
        for partition, one in self._partitions.items():
            one.keep(one.offsets >= starts.get(partition, 0))
        return before - len(self)

    def forget(self, before: float) -> None:
        """Drop examples older than an event time."""
        for one in self._partitions.values():
            one.keep(one.times >= before)


class ExampleFollower:
    """Reads every partition of `P.examples` from its beginning on into an `Index`."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._scored = pipeline.topics.scored
        self._topic = TopicFollower(settings, pipeline.topics.examples)
        self.index = Index()
        self.logged = Logged(pipeline)
        """Which records hold what the pipeline's rows do."""
        self.left_out = 0
        """Records that were read and are no examples of the pipeline's vectors."""

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        await self._topic.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._topic.stop()

    async def poll(self, timeout: float = 1.0) -> int:
        """Take in the next examples; how many they were. Raises `Unavailable`."""
        found = await self._topic.poll(timeout, most=16384)
        for partition, records in groupby(found, attrgetter("partition")):
            self._add(partition, list(records))
        return len(found)

    async def caught_up(self) -> bool:
        """Whether everything that was there at the start has been read. Raises `Unavailable`."""
        return await self._topic.caught_up()

    async def at_end(self) -> bool:
        """Whether everything that is there now has been read. Raises `Unavailable`."""
        return await self._topic.at_end()

    async def expected(self) -> set[int]:
        """Partitions in which something was served, so that examples will come.

        Raises `Unavailable`.
        """
        ends = await self._topic.ends(self._scored)
        return {partition for partition, end in ends.items() if end}

    async def forget_trimmed(self) -> None:
        """Drop what retention has taken from the topic, so that no window asks for it.

        Raises `Unavailable`.
        """
        if gone := self.index.forget_below(await self._topic.starts()):
            log.warning(
                "retention has deleted examples, windows are shorter by these",
                topic=self._pipeline.topics.examples,
                examples=gone,
            )

    def _add(self, partition: int, records: Sequence[SourceRecord]) -> None:
        found = [
            (record.offset, one)
            for record, one in decode_many(records, _Dated, is_dated)
            if self.logged.readable(one.schema, one.vector)
        ]
        self.left_out += len(records) - len(found)
        self.index.add(
            partition,
            np.array([offset for offset, _ in found], np.int64),
            np.array([one.event_time for _, one in found]),
            np.array([one.label for _, one in found], np.float32),
        )
