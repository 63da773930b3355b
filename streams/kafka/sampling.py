"""The keys of some of a topic's records, to see by them how it is partitioned."""

from __future__ import annotations

import asyncio

from streams.kafka.offsets import offsets_client
from streams.kafka.reading import read_range
from streams.settings import Settings

_PARTITIONS, _RECORDS = 4, 256
"""So many records at the beginning and the end of so many partitions."""


async def sample_keys(settings: Settings, topic: str) -> tuple[list[tuple[int, bytes]], int]:
    """Partition and key of some records, and how many partitions there are.

    Raises:
        Unavailable: Kafka is away.
    """
    found = list[tuple[int, bytes]]()
    async with offsets_client(settings) as asked:
        ends = await asked.ends(topic)

    async def read(partition: int, first: int, after: int) -> None:
        async for records in read_range(settings, topic, partition, first, after):
            found.extend((partition, record.key or b"") for record in records)

    spans = [
        (partition, first, after)
        for partition, end in list(ends.items())[:_PARTITIONS]
        for first, after in ((0, min(end, _RECORDS)), (max(_RECORDS, end - _RECORDS), end))
    ]
    await asyncio.gather(*(read(*span) for span in spans))
    return found, len(ends)
