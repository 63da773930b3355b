"""Reading topics: what is committed, in each partition's order, without a consumer group."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import chain
from typing import Literal

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.errors import OffsetsMissing
from streams.kafka.connection import reader, unavailable
from streams.kafka.topics import topic_exists
from streams.ports.batches import SourceRecord
from streams.settings import Settings

log = structlog.get_logger(__name__)

_READ_AGAIN = 0.25
"""Seconds until a broker that is away is asked again for a range of records."""
_SILENCE = 30.0
"""Seconds without a record after which `read_exactly` gives up."""


class TopicFollower:
    """Reads topics without end, from their beginning or from now.

    Partitions that are added later are read too. Every method but `stop` raises `Unavailable`
    where no broker answers.
    """

    def __init__(
        self, settings: Settings, *topics: str, start: Literal["earliest", "latest"] = "earliest"
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._start = start
        self._opened: AIOKafkaConsumer | None = None
        self._ends: dict[TopicPartition, int] = {}
        """Where partitions ended when reading began, until they have been read so far."""

    async def start(self) -> None:
        """Connect, and take note of where the topics end now."""
        consumer = reader(self._settings, *self._topics, start=self._start)
        try:
            with unavailable(self._settings):
                await consumer.start()
                self._ends = await consumer.end_offsets(list(consumer.assignment()))
        except BaseException:
            await consumer.stop()
            raise
        self._opened = consumer

    async def skip_to(self, at: float) -> None:
        """Go on with what was written at this time of day (seconds since 1970) or later."""
        with unavailable(self._settings):
            asked = dict.fromkeys(self._consumer.assignment(), int(at * 1000))
            found = await self._consumer.offsets_for_times(asked)
            for partition, first in found.items():
                end = self._ends.get(partition, 0)
                self._consumer.seek(partition, first.offset if first is not None else end)

    async def poll(self, timeout: float = 0.5, most: int | None = None) -> list[SourceRecord]:
        """The next records, those of a partition side by side; none where none came in time."""
        with unavailable(self._settings):
            found = await self._consumer.getmany(timeout_ms=int(timeout * 1000), max_records=most)
        return list(chain.from_iterable(found.values()))

    async def caught_up(self) -> bool:
        """Whether all has been read that the topics held when reading began."""
        with unavailable(self._settings):
            for partition, end in list(self._ends.items()):
                if await self._consumer.position(partition) < end:
                    return False
                del self._ends[partition]
        return True

    async def at_end(self) -> bool:
        """Whether all has been read that the topics hold now."""
        with unavailable(self._settings):
            ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
            for partition, end in ends.items():
                if await self._consumer.position(partition) < end:
                    return False
        return True

    async def read_to_end(self) -> list[SourceRecord]:
        """Every record that the topics held when reading began."""
        records: list[SourceRecord] = []
        while not await self.caught_up():
            records += await self.poll()
        return records

    async def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last of each partition that is followed, in this topic or another
        of as many partitions."""
        asked = [TopicPartition(topic, tp.partition) for tp in self._consumer.assignment()]
        with unavailable(self._settings):
            ends = await self._consumer.end_offsets(asked)
        return {tp.partition: end for tp, end in ends.items()}

    async def starts(self) -> dict[int, int]:
        """The first offset that each partition that is followed still holds, of one topic."""
        with unavailable(self._settings):
            found = await self._consumer.beginning_offsets(list(self._consumer.assignment()))
        return {tp.partition: start for tp, start in found.items()}

    async def stop(self) -> None:
        """Disconnect."""
        consumer, self._opened = self._opened, None
        if consumer is not None:
            await consumer.stop()

    @property
    def _consumer(self) -> AIOKafkaConsumer:
        assert self._opened is not None, "the follower has not started"
        return self._opened


@asynccontextmanager
async def following(settings: Settings, *topics: str) -> AsyncIterator[TopicFollower]:
    """A follower of topics from their beginning, while the block lasts. Raises `Unavailable`."""
    follower = TopicFollower(settings, *topics)
    await follower.start()
    try:
        yield follower
    finally:
        await follower.stop()


async def read_topic(settings: Settings, topic: str) -> list[SourceRecord]:
    """Every record that a topic holds; none where there is no such topic. Raises `Unavailable`."""
    if not await topic_exists(settings, topic):
        return []
    async with following(settings, topic) as follower:
        return await follower.read_to_end()


async def read_range(
    settings: Settings, topic: str, partition: int, first: int, end: int, *, batch: int = 4096
) -> AsyncIterator[list[SourceRecord]]:
    """Committed records of [first, end) in offset order, in lists of at most `batch`.

    Waits while Kafka is away, and goes on where it was. Offsets that retention has deleted are
    passed over.
    """
    tp, position = TopicPartition(topic, partition), first
    while position < end:
        try:
            async with _reader_at(settings, tp, position) as consumer:
                while (position := await consumer.position(tp)) < end:
                    found = await consumer.getmany(timeout_ms=500, max_records=batch)
                    records = [r for r in found.get(tp, []) if r.offset < end]
                    if records:
                        position = records[-1].offset + 1
                        yield records
        except (KafkaError, OSError) as error:
            log.warning("Kafka does not answer, trying again", reading=topic, error=repr(error))
            await asyncio.sleep(_READ_AGAIN)


async def read_last(
    settings: Settings, topic: str, partition: int, offsets: int
) -> list[SourceRecord]:
    """Committed records of a partition's last offsets, in order; waits while Kafka is away."""
    end = await _end(settings, topic, partition)
    found: list[SourceRecord] = []
    async for records in read_range(settings, topic, partition, max(0, end - offsets), end):
        found += records
    return found


async def read_partition(settings: Settings, topic: str, partition: int) -> list[SourceRecord]:
    """All committed records of a partition, in order; waits while Kafka is away."""
    return await read_last(settings, topic, partition, sys.maxsize)


async def _end(settings: Settings, topic: str, partition: int) -> int:
    tp = TopicPartition(topic, partition)
    while True:
        try:
            async with _reader_at(settings, tp, 0) as consumer:
                ends = await consumer.end_offsets([tp])
                return int(ends[tp])
        except (KafkaError, OSError) as error:
            log.warning("Kafka does not answer, trying again", reading=topic, error=repr(error))
            await asyncio.sleep(_READ_AGAIN)


@asynccontextmanager
async def _reader_at(
    settings: Settings, partition: TopicPartition, first: int
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer at an offset of a partition, or at the first that retention has left above it."""
    consumer = reader(settings)
    try:
        await consumer.start()
        consumer.assign([partition])
        start = (await consumer.beginning_offsets([partition]))[partition]
        consumer.seek(partition, max(first, start))
        yield consumer
    finally:
        await asyncio.shield(consumer.stop())  # half stopped, it would fetch for ever


async def read_exactly(
    settings: Settings, topic: str, spans: Mapping[int, tuple[int, int]]
) -> AsyncIterator[list[SourceRecord]]:
    """Committed records of offsets [first, next) by partition, in the order of both.

    Raises:
        OffsetsMissing: some of these offsets are not in the topic (any more), or do not come.
        Unavailable: no broker answers.
    """
    consumer = reader(settings, start="none")
    wanted = {TopicPartition(topic, number): span for number, span in sorted(spans.items())}
    try:
        with unavailable(settings):
            await consumer.start()
            await _check_offsets(consumer, wanted)
            for partition, (first, after) in wanted.items():
                if first < after:
                    async for records in _read_span(consumer, partition, first, after):
                        yield records
    finally:
        await consumer.stop()


async def _check_offsets(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, tuple[int, int]]
) -> None:
    starts = await consumer.beginning_offsets(list(spans))
    ends = await consumer.end_offsets(list(spans))
    for partition, (first, after) in spans.items():
        if first < after and not starts[partition] <= first <= after <= ends[partition]:
            raise OffsetsMissing(
                f"{partition.topic}-{partition.partition}:{first}-{after} is not in the topic, "
                f"which holds {starts[partition]}-{ends[partition]} - choose offsets in that range"
            )


async def _read_span(
    consumer: AIOKafkaConsumer, partition: TopicPartition, first: int, after: int
) -> AsyncIterator[list[SourceRecord]]:
    consumer.assign([partition])
    consumer.seek(partition, first)
    waited = 0.0
    while await consumer.position(partition) < after:
        found = await consumer.getmany(partition, timeout_ms=1000, max_records=8192)
        records = found.get(partition, [])
        waited = 0.0 if records else waited + 1.0
        if waited > _SILENCE:
            raise OffsetsMissing(
                f"{partition.topic}-{partition.partition} gives nothing at offset "
                f"{await consumer.position(partition)} - is a transaction left open?"
            )
        yield [record for record in records if record.offset < after]
