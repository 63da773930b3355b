"""Live rates of a pipeline's topics, and how far its workers are behind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from streams.kafka.offsets import OffsetsClient, offsets_client
from streams.kafka.reading import TopicFollower
from streams.kafka.topics import groups
from streams.settings import Settings
from streams.spec import Pipeline

INTERVAL = 1.0
"""Seconds between two samples."""


@dataclass(frozen=True)
class TopicRate:
    """How a topic moves."""

    topic: str
    records: int
    """Committed since the first sample. Offsets would count the markers of transactions too."""
    per_second: float
    """Records since the sample before."""
    lag: int | None
    """Offsets that the worker that reads it has not committed; None where none does."""


async def rates(settings: Settings, pipeline: Pipeline) -> AsyncIterator[list[TopicRate]]:
    """A sample of every topic, each second, until nobody asks for more. Raises `Unavailable`."""
    topics = [*pipeline.topics.partitioned, pipeline.topics.models]
    follower = TopicFollower(settings, *topics, start="latest")
    await follower.start()
    try:
        async with offsets_client(settings) as asked:
            total: Counter[str] = Counter()
            while True:
                at, seen = time.monotonic(), Counter[str]()
                while (left := at + INTERVAL - time.monotonic()) > 0:
                    seen.update(record.topic for record in await follower.poll(left))
                took, lags = time.monotonic() - at, await _lags(asked, pipeline)
                total += seen
                yield [
                    TopicRate(topic, total[topic], seen[topic] / took, lags.get(topic))
                    for topic in topics
                ]
    finally:
        await follower.stop()


async def _lags(asked: OffsetsClient, pipeline: Pipeline) -> dict[str, int]:
    lags = {}
    for topic, group in groups(pipeline).items():
        ends = await asked.ends(topic)
        found = await asked.committed(group, topic, ends)
        lags[topic] = sum(end - (found[number] or 0) for number, end in ends.items())
    return lags
