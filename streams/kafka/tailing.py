"""The newest records of a topic, without reading the rest."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.connection import reader, unavailable
from streams.ports.batches import SourceRecord
from streams.settings import Settings

_BACK = 8
"""Offsets from the end; each transaction ends with one that is no record."""
_SECONDS = 2.0
"""A look ends after so long, with what it has."""


class TopicTail:
    """Looks at the end of each partition of a topic, as often as it is asked."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._opened: AIOKafkaConsumer | None = None
        self._seen: dict[TopicPartition, int] = {}
        """Where partitions ended at the last look."""

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        consumer = reader(self._settings, self._topic)
        try:
            with unavailable(self._settings):
                await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        self._opened = consumer

    async def stop(self) -> None:
        """Disconnect."""
        consumer, self._opened = self._opened, None
        if consumer is not None:
            await consumer.stop()

    async def newest(self) -> list[SourceRecord]:
        """The last records of the partitions that have grown since the last look; a few of each.

        Raises `Unavailable`.
        """
        consumer = self._opened
        assert consumer is not None, "the tail has not started"
        found: list[SourceRecord] = []
        with unavailable(self._settings):
            ends = await consumer.end_offsets(list(consumer.assignment()))
            grown = {tp: end for tp, end in ends.items() if end > self._seen.get(tp, 0)}
            for tp, end in grown.items():
                consumer.seek(tp, max(0, end - _BACK))
            deadline = asyncio.get_running_loop().time() + _SECONDS
            waiting = list(grown)
            while waiting and asyncio.get_running_loop().time() < deadline:
                for records in (await consumer.getmany(*waiting, timeout_ms=200)).values():
                    found += records
                waiting = [tp for tp in waiting if await consumer.position(tp) < grown[tp]]
            self._seen = {**self._seen, **ends}
        return found
