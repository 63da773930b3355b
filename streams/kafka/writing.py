"""Writing records outside the hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from streams.kafka.connection import Producer, producer, unavailable
from streams.ports.batches import TopicPartition
from streams.settings import Settings


async def append(settings: Settings, topic: str, value: bytes, partition: int) -> None:
    """Add a record; returns when every replica has it. Raises `Unavailable`."""
    writing = producer(settings)
    try:
        with unavailable(settings):
            await writing.start()
            await writing.send_and_wait(topic, value, partition=partition)
    finally:
        await writing.stop()


async def send_all(
    writing: Producer, records: Iterable[tuple[str, bytes, bytes]]
) -> dict[TopicPartition, int]:
    """Send records (topic, key, value) in their order; returns once all are acknowledged.

    Gives the offset after the last record by partition.
    """
    sent: list[Any] = [
        await writing.send(topic, key=key, value=value) for topic, key, value in records
    ]
    ends: dict[TopicPartition, int] = {}
    for done in await asyncio.gather(*sent):
        at = TopicPartition(done.topic, done.partition)
        ends[at] = max(ends.get(at, 0), done.offset + 1)
    return ends
