"""What crosses the border between engine and logic: micro-batches in, outputs out."""

from __future__ import annotations

import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class TopicPartition(NamedTuple):
    """A partition of a topic. Equal to aiokafka's and Faust's tuples of the same name."""

    topic: str
    partition: int


class SourceRecord(Protocol):
    """A record as it was read from a topic; aiokafka's is one."""

    @property
    def topic(self) -> str:
        """The topic that it was read from."""
        ...

    @property
    def partition(self) -> int:
        """The partition that it was read from."""
        ...

    @property
    def offset(self) -> int:
        """Its place in the partition."""
        ...

    @property
    def timestamp(self) -> int:
        """When it was written, milliseconds since 1970."""
        ...

    @property
    def key(self) -> bytes | None:
        """Its key; None where it has none."""
        ...

    @property
    def value(self) -> bytes | None:
        """Its value; None for a tombstone."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Its headers."""
        ...


Headers = list[tuple[str, bytes]]
NO_HEADERS: Headers = []
"""Shared by records: never to be changed."""
OutputRecord = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record to write."""

Outputs = dict[str | TopicPartition, list[OutputRecord]]
"""Records to write: by topic, for the partition number that their source has, or by partition."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The unit of work: records of one partition, and the span of offsets that they cover."""

    topic: str
    partition: int
    records: list[SourceRecord]
    first: int
    """First offset of the span: the one after the previous batch's last."""
    committed: int
    """Offsets of this topic below this are committed."""
    received: float = field(default_factory=time.monotonic)
    """Monotonic time at which the oldest record was fetched."""

    @property
    def next(self) -> int:
        """The offset after the span's last."""
        return int(self.records[-1].offset) + 1


class Processor(Protocol):
    """What a lane does with a micro-batch."""

    async def open(self, committed: Mapping[str, int | None]) -> Mapping[str, int]:
        """Bring state up to the committed offsets (by topic) before the first batch.

        Returns where to go on in topics of which nothing is committed, though there is state of
        them: a group that was idle for long has lost its offsets.
        """
        ...

    async def process(self, batch: MicroBatch) -> Outputs:
        """Outputs of a micro-batch. Waits and retries while a server is away; raises bugs only."""
        ...

    async def commit(self) -> None:
        """All outputs so far are durable: make the state changes behind them durable too."""
        ...

    async def close(self) -> None:
        """Release what `open` took."""
        ...


ReadRange = Callable[[str, int, int, int], AsyncIterator[list[SourceRecord]]]
"""(topic, partition, first, end) -> the records of that range, in lists."""


class PastPredictions(Protocol):
    """What has been predicted of the events topic before."""

    @property
    def prefix(self) -> str:
        """Begins the ids of its predictions: a topic that is made anew has another."""
        ...

    async def end(self, partition: int) -> int:
        """The offset after the last event that has its prediction; 0 where none has."""
        ...


class Progress(Protocol):
    """How far a pipeline's workers have come, by partition number."""

    async def scored(self) -> Mapping[int, int]:
        """Up to which offset the events are scored; those that have none are left out.

        Raises:
            Unavailable: Kafka is away.
        """
        ...

    async def labelled(self) -> tuple[str, Sequence[int]]:
        """The stream in which labels are folded, and the partitions on which labellers work.

        Raises:
            Unavailable: Kafka is away.
        """
        ...


Offsets = Mapping[TopicPartition, int | None]
"""Committed offsets; None where nothing is committed."""
FindCommitted = Callable[[set[TopicPartition]], Awaitable[Offsets]]
"""The committed offsets of these partitions."""
GroupOffsets = Callable[[], Awaitable[Offsets]]
"""The group's committed offsets, of all partitions of its topics. Raises `Unavailable`."""

Background = Callable[[Collection[int]], Coroutine[None, None, None]]
"""Work that a worker does until its next assignment, given the partitions that it owns."""
