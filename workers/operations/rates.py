"""Live rates of a pipeline's topics, and how far its workers are behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from streams.kafka.offsets import OffsetsClient, offsets_client
from streams.kafka.topics import group_id
from streams.settings import Settings
from streams.spec import Pipeline

INTERVAL = 1.0
"""Seconds between two samples."""


@dataclass(frozen=True)
class TopicRate:
    """What a topic holds, and how it moves."""

    topic: str
    offsets: int
    """Of all its partitions together."""
    per_second: float
    """OffsetsClient since the sample before; 0 in the first."""
    lag: int | None
    """OffsetsClient that the worker that reads it has not committed; None where none does."""


async def rates(settings: Settings, pipeline: Pipeline) -> AsyncIterator[list[TopicRate]]:
    """A sample of every topic, each second, until nobody asks for more. Raises `Unavailable`."""
    async with offsets_client(settings) as asked:
        before: dict[str, int] = {}
        at = time.monotonic()
        while True:
            ends = {topic: await asked.ends(topic) for topic in _topics(pipeline)}
            totals = {topic: sum(found.values()) for topic, found in ends.items()}
            now = time.monotonic()
            lags = await _lags(asked, pipeline, ends)
            yield [
                TopicRate(
                    topic,
                    total,
                    (total - before.get(topic, total)) / max(now - at, 1e-9),
                    lags.get(topic),
                )
                for topic, total in totals.items()
            ]
            before, at = totals, now
            await asyncio.sleep(INTERVAL)


def _topics(pipeline: Pipeline) -> list[str]:
    return [*pipeline.topics.partitioned, pipeline.topics.models]


async def _lags(
    asked: OffsetsClient, pipeline: Pipeline, ends: dict[str, dict[int, int]]
) -> dict[str, int]:
    name, topics = pipeline.name, pipeline.topics
    readers = {topics.events: "score", topics.scored: "label", topics.feedback: "label"}
    lags = {}
    for topic, role in readers.items():
        found = await asked.committed(group_id(name, role), topic, ends[topic])
        lags[topic] = sum(end - (found[number] or 0) for number, end in ends[topic].items())
    return lags
