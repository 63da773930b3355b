"""History on a pipeline's topics: written once, however often it is begun.

Whoever writes it is alone, and writes each time the same records to the same partitions: those that
are there already are passed over. While it is under way the scoring group's offsets say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition

from streams.errors import ConfigurationError, DriftloopError
from streams.kafka.connection import admin_client, client_options, unavailable
from streams.kafka.filling import Handed, hand_over
from streams.kafka.offsets import offsets_client
from streams.kafka.reading import read_last
from streams.kafka.topics import group_id
from streams.ports.batches import OutputRecord, SourceRecord, TopicPartition
from streams.settings import Settings
from streams.spec import Pipeline

_UNDER_WAY = "backfill "
"""Begins the note beside the scoring group's offsets; the milliseconds of its records follow."""


class HeldHistory:
    """What a partition holds already of history that was begun before."""

    def __init__(self, end: int, last: SourceRecord | None) -> None:
        self.end = end
        self._last = last

    def of(self, first: int, records: Sequence[OutputRecord]) -> int:
        """How many of the records, which begin at `first`, are there.

        Raises:
            ConfigurationError: other ones are.
        """
        there = min(max(0, self.end - first), len(records))
        if self._last is not None and first <= self._last.offset < first + there:
            key, value, _ = records[self._last.offset - first]
            if (key, value) != (self._last.key, self._last.value):
                raise ConfigurationError(
                    f"{self._last.topic} holds another history at {self._last.partition}-"
                    f"{self._last.offset} - run it with the files, the pipeline and the partitions "
                    "that it was begun with, or delete the pipeline's topics"
                )
        return there


class HistoryWriter:
    """Writes records at the offsets that they are to have."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        kept: Mapping[TopicPartition, HeldHistory],
        written: int,
    ) -> None:
        """`written` is the timestamp of all records, milliseconds since 1970."""
        self._producer = producer
        self._kept = kept
        self._timestamp = written
        self.ends: dict[TopicPartition, int] = {}
        """The offset after the last that was written, by partition."""
        self._handed: list[tuple[TopicPartition, int, Handed]] = []

    async def write(self, topic: str, partition: int, records: list[OutputRecord]) -> int:
        """Add records to a partition, where they are not there yet; the offset of the first."""
        at = TopicPartition(topic, partition)
        first = self.ends.get(at, 0)
        self.ends[at] = first + len(records)
        kept = self._kept.get(at)
        start = first if kept is None else first + kept.of(first, records)
        handed = await hand_over(
            self._producer, records[start - first :], topic, partition, self._timestamp
        )
        for one in handed:
            self._handed.append((at, start, one))
            start += one.records
        return first

    async def settle(self) -> None:
        """Return once all that was written is acknowledged, where it was to be.

        Raises:
            DriftloopError: somebody else writes to the topics.
        """
        handed, self._handed = self._handed, []
        done = await asyncio.gather(*(one.acknowledged for _, _, one in handed))
        for (at, expected, _), found in zip(handed, done, strict=True):
            if found.offset != expected:
                raise DriftloopError(
                    f"another process writes to {at.topic}: partition {at.partition} is at "
                    f"{found.offset} where the backfill was at {expected} - stop it, delete the "
                    "pipeline's topics, and begin again"
                )


async def kept(
    settings: Settings, topics: Sequence[str], partitions: int
) -> dict[TopicPartition, HeldHistory]:
    """What the topics hold, by partition; those that hold nothing are left out."""
    found: dict[TopicPartition, HeldHistory] = {}
    async with offsets_client(settings) as asked:
        ends = {topic: await asked.ends(topic) for topic in topics}
    for topic, by_partition in ends.items():
        for number, end in by_partition.items():
            if end and number < partitions:
                last = await read_last(settings, topic, number, 1)
                found[TopicPartition(topic, number)] = HeldHistory(end, last[-1] if last else None)
    return found


async def under_way(settings: Settings, pipeline: Pipeline) -> int | None:
    """The milliseconds since 1970 of a backfill that has not ended; None where there is none.

    Raises:
        Unavailable: no broker answers.
    """
    group, events = group_id(pipeline.name, "score"), pipeline.topics.events
    async with admin_client(settings) as admin:
        with unavailable(settings):
            found = await admin.list_consumer_group_offsets(group)
    for at, committed in found.items():
        if at.topic == events and committed.metadata.startswith(_UNDER_WAY):
            return int(committed.metadata.removeprefix(_UNDER_WAY))
    return None


async def require_none_under_way(settings: Settings, pipeline: Pipeline) -> None:
    """See that no backfill was left half-way: what it has not written yet would come twice.

    Raises:
        ConfigurationError: one was.
        Unavailable: no broker answers.
    """
    if await under_way(settings, pipeline) is not None:
        raise ConfigurationError(
            f"a backfill of {pipeline.name} has not ended - let it, or run it again with the same "
            "files: it goes on"
        )


async def begin(settings: Settings, pipeline: Pipeline, partitions: int, written: int) -> None:
    """Note that a backfill is under way, whose records are of `written`. Raises as `end`."""
    events = pipeline.topics.events
    offsets = {TopicPartition(events, number): 0 for number in range(partitions)}
    await _commit(settings, group_id(pipeline.name, "score"), offsets, f"{_UNDER_WAY}{written}")


async def end(
    settings: Settings, pipeline: Pipeline, ends: Mapping[TopicPartition, int], partitions: int
) -> None:
    """Commit that all of history is scored and labelled; it is under way no more.

    Raises:
        ConfigurationError: workers have joined the groups meanwhile.
        Unavailable: no broker answers.
    """
    topics = pipeline.topics
    for role, read in (("label", (topics.scored, topics.feedback)), ("score", (topics.events,))):
        found = [TopicPartition(topic, at) for topic in read for at in range(partitions)]
        offsets = {one: ends.get(one, 0) for one in found}
        await _commit(settings, group_id(pipeline.name, role), offsets, "")


async def _commit(
    settings: Settings, group: str, offsets: Mapping[TopicPartition, int], note: str
) -> None:
    consumer = AIOKafkaConsumer(
        **client_options(settings), group_id=group, enable_auto_commit=False
    )
    try:
        with unavailable(settings):
            await consumer.start()
            asked = {KafkaPartition(*at): (offset, note) for at, offset in offsets.items()}
            consumer.assign(list(asked))
            await consumer.commit(asked)
    finally:
        await consumer.stop()
