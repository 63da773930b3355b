"""Record batches that are filled whole and handed to a producer."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from streams.ports.batches import OutputRecord


class Handed(NamedTuple):
    """A record batch that a producer has."""

    records: int
    acknowledged: asyncio.Future[Any]
    """By the broker: where its first record lies."""


async def hand_over(
    producer: AIOKafkaProducer,
    records: list[OutputRecord],
    topic: str,
    partition: int,
    timestamp: int | None = None,
) -> list[Handed]:
    """Hand records over; without a timestamp (milliseconds since 1970) they are written now."""
    handed, start = list[Handed](), 0
    while start < len(records):
        batch = producer.create_batch()
        end = _fill(batch, records, start, timestamp)
        batch.close()
        acknowledged = await producer.send_batch(batch, topic, partition=partition)
        handed.append(Handed(end - start, acknowledged))
        start = end
    return handed


def _fill(
    batch: BatchBuilder, records: list[OutputRecord], start: int, timestamp: int | None
) -> int:
    """Append records from `start` on until the batch is full; returns the first that it left.

    `BatchBuilder.append` does the same at three times the cost per record.
    """
    append, offset = batch._builder.append, 0
    for key, value, headers in islice(records, start, None):
        if append(offset, timestamp, key, value, headers) is None:
            break
        offset += 1
    batch._relative_offset = offset
    return start + offset
