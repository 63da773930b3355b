"""Where topics end, and how far consumer groups have come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streams.kafka.connection import admin_client, away, reader, unavailable
from streams.settings import Settings


class OffsetsClient:
    """Asks brokers for offsets. Made by `offsets_client`; every method raises `Unavailable`."""

    def __init__(
        self, settings: Settings, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer
    ) -> None:
        self._settings = settings
        self._admin = admin
        self._consumer = consumer

    async def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last committed record, by partition; empty for no such topic."""
        with unavailable(self._settings):
            if self._consumer.partitions_for_topic(topic) is None:
                await self._consumer._client.force_metadata_update()
            numbers = self._consumer.partitions_for_topic(topic) or ()
            asked = [TopicPartition(topic, number) for number in sorted(numbers)]
            found = await self._consumer.end_offsets(asked) if asked else {}
        return {tp.partition: end for tp, end in found.items()}

    async def committed(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, int | None]:
        """The group's next offset by partition; None where it has none.

        Waits, for 3 times `connect_timeout` at most, while the group's coordinator is not ready.
        """
        asked = [TopicPartition(topic, number) for number in partitions]
        deadline = time.monotonic() + 3 * self._settings.connect_timeout
        with unavailable(self._settings):
            while True:
                found = await self._admin.list_consumer_group_offsets(group, partitions=asked)
                if len(found) >= len(asked):
                    break
                # a coordinator that still loads its log names no partition, and aiokafka no error
                if time.monotonic() > deadline:
                    raise away(self._settings, "groups are loading")
                await asyncio.sleep(0.1)
        return {tp.partition: at.offset if at.offset >= 0 else None for tp, at in found.items()}


@asynccontextmanager
async def offsets_client(settings: Settings) -> AsyncIterator[OffsetsClient]:
    """A connection to ask for offsets. Raises `Unavailable`."""
    async with admin_client(settings) as admin:
        consumer = reader(settings)
        try:
            with unavailable(settings):
                await consumer.start()
            yield OffsetsClient(settings, admin, consumer)
        finally:
            await consumer.stop()
