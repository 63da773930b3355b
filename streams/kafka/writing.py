"""Writing records outside the hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import aiokafka

from streams.kafka.connection import Producer, producer, unavailable
from streams.ports.batches import OutputRecord, TopicPartition
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


async def put(settings: Settings, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Write records (key, value); returns when every replica has them. Raises `Unavailable`."""
    writing = producer(settings)
    try:
        with unavailable(settings):
            await writing.start()
            await send_all(writing, ((topic, key, value) for key, value in records))
    finally:
        await writing.stop()


async def append_past(
    settings: Settings,
    *,
    transactional_id: str,
    group: str,
    source: TopicPartition,
    after: int,
    written: tuple[str, OutputRecord],
) -> None:
    """Write a record (topic, record) and commit the offset `after` of its source for a group.

    In one transaction, which fences whoever has the transactional id. Raises `Unavailable`.
    """
    topic, (key, value, headers) = written
    writing = producer(settings, transactional_id=transactional_id)
    with unavailable(settings):
        async with writing, writing.transaction():
            await writing.send(
                topic, key=key, value=value, headers=headers, partition=source.partition
            )
            offsets = {aiokafka.TopicPartition(*source): after}
            await writing.send_offsets_to_transaction(offsets, group)


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
