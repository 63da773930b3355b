"""The newest records of a topic, without reading the rest."""

from __future__ import annotations

import asyncio

from aiokafka import TopicPartition

from streams.kafka.connection import unavailable
from streams.kafka.reading import TopicFollower
from streams.ports.batches import SourceRecord
from streams.settings import Settings

_BACK = 8
"""Offsets from the end; each transaction ends with one that is no record."""
_SECONDS = 2.0
"""A look ends after so long, with what it has."""


class TopicTail(TopicFollower):
    """Looks at the end of each partition of a topic, as often as it is asked."""

    def __init__(self, settings: Settings, topic: str) -> None:
        super().__init__(settings, topic)
        self._seen: dict[TopicPartition, int] = {}
        """Where partitions ended at the last look."""

    async def newest(self) -> list[SourceRecord]:
        """The last records of the partitions that have grown since the last look; a few of each.

        Raises `Unavailable`.
        """
        consumer = self._consumer
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
