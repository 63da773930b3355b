"""Following `P.examples`: where each example lies, so that a candidate's window can be named."""

from __future__ import annotations

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streams.settings import Settings
from streams.spec import Pipeline
from streams.transport.clients import away, reader
from workers.schedule import Index


class _Dated(msgspec.Struct, frozen=True):
    event_time: float
    label: float


_decode_many = msgspec.json.Decoder(list[_Dated]).decode


class ExampleTail:
    """Reads every partition of `P.examples` from its beginning on into an `Index`."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._consumer: AIOKafkaConsumer | None = None
        self._ends: dict[TopicPartition, int] = {}
        self.index = Index()

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        consumer = reader(self._settings, self._pipeline.topics.examples)
        self._consumer = consumer
        try:
            await consumer.start()
            self._ends = await consumer.end_offsets(list(consumer.assignment()))
        except (KafkaError, OSError) as error:
            await self.stop()
            raise away(self._settings, error) from None

    async def stop(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def poll(self, timeout: float = 1.0) -> int:
        """Take in the next examples; how many they were. Raises `Unavailable`."""
        assert self._consumer is not None
        try:
            found = await self._consumer.getmany(timeout_ms=int(timeout * 1000), max_records=16384)
        except KafkaError as error:
            raise away(self._settings, error) from None
        for partition, records in found.items():
            self._add(partition.partition, records)
        return sum(map(len, found.values()))

    async def caught_up(self) -> bool:
        """Whether everything that was there at the start has been read. Raises `Unavailable`."""
        assert self._consumer is not None
        try:
            for partition, end in list(self._ends.items()):
                if await self._consumer.position(partition) < end:
                    return False
                del self._ends[partition]
        except KafkaError as error:
            raise away(self._settings, error) from None
        return True

    async def expected(self) -> set[int]:
        """Partitions in which something was served, so that examples will come. Raises
        `Unavailable`."""
        assert self._consumer is not None
        partitions = [
            TopicPartition(self._pipeline.topics.scored, one.partition)
            for one in self._consumer.assignment()
        ]
        try:
            ends = await self._consumer.end_offsets(partitions)
        except KafkaError as error:
            raise away(self._settings, error) from None
        return {partition.partition for partition, end in ends.items() if end}

    def _add(self, partition: int, records: list[ConsumerRecord]) -> None:
        dated = _decode_many(b"[" + b",".join(record.value for record in records) + b"]")
        self.index.add(
            partition,
            np.array([record.offset for record in records], np.int64),
            np.array([one.event_time for one in dated]),
            np.array([one.label for one in dated], np.float32),
        )
