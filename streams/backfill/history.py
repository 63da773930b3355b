"""A backfill: a pipeline's topics, feature state and label stores out of its history."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from streams.adapters.redis.state import RedisFeatureState
from streams.adapters.rocksdb.labels import RocksLabelStore
from streams.backfill.records import Dated, chunks
from streams.backfill.replay import Replay
from streams.errors import ConfigurationError
from streams.kafka import history
from streams.kafka.connection import producer, unavailable
from streams.kafka.topic_ids import together, topic_ids
from streams.kafka.topics import ensure_topics
from streams.ports.batches import TopicPartition
from streams.settings import Settings
from streams.spec import Pipeline

OnProgress = Callable[[int], None]
"""Told of so many more records that are worked off."""


@dataclass
class Made:
    """What a backfill has written: records by topic."""

    records: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def of(self, topic: str) -> int:
        """Records of a topic."""
        return self.records.get(topic, 0)


async def written_at(settings: Settings, pipeline: Pipeline) -> int | None:
    """When a backfill began that is to go on, in milliseconds since 1970; None for a new one.

    Raises:
        ConfigurationError: the pipeline has events of its own.
        Unavailable: no broker answers.
    """
    begun = await history.under_way(settings, pipeline)
    if begun is None:
        partitions = await ensure_topics(settings, pipeline)
        found = Counter[str]()
        for at, kept in (await history.kept(settings, _written(pipeline), partitions)).items():
            found[at.topic] += kept.end
        if found:
            there = ", ".join(f"{count:,} in {topic}" for topic, count in found.items())
            raise ConfigurationError(
                f"{pipeline.name} has records already ({there}): history has to come before them - "
                "give the pipeline another name, or delete its topics"
            )
    return begun


async def backfill(
    settings: Settings,
    pipeline: Pipeline,
    found: Iterable[Dated],
    progress: OnProgress,
    written: int | None = None,
) -> Made:
    """Work off history, in the order of its times, as streaming would have.

    Feature state and label stores are to be empty, and no workers to run. `written` is when a
    backfill began that is gone on with: what it has written already is passed over.

    Raises:
        ConfigurationError: what is there is another history; workers run.
        TooManyInvalid: too many records are bad.
        Unavailable: a server is away.
    """
    began = time.monotonic()
    partitions = await ensure_topics(settings, pipeline)
    topics = pipeline.topics
    ids = await topic_ids(settings, (topics.events, topics.scored, topics.feedback))
    joined = together([ids.get(topic, "") for topic in (topics.scored, topics.feedback)])
    kept = await history.kept(settings, _written(pipeline), partitions)
    written = written or int(time.time() * 1000)
    await history.begin(settings, pipeline, partitions, written)
    state = await RedisFeatureState.of(settings, pipeline, ids.get(topics.events, ""))
    stores = settings.state_dir / "labels" / pipeline.name / (joined or "topics")
    try:
        with unavailable(settings):
            async with producer(settings) as writing:
                writer = history.HistoryWriter(writing, kept, written)
                replay = Replay(
                    pipeline,
                    state,
                    lambda number: RocksLabelStore(stores / str(number)),
                    writer,
                    partitions,
                    joined,
                )
                try:
                    await replay.open()
                    for chunk in chunks(found, partitions, written):
                        await replay.take(chunk)
                        await writer.settle()
                        progress(len(chunk))
                finally:
                    await replay.close()
    finally:
        await state.close()
    _require_all(kept, writer)
    await history.end(settings, pipeline, writer.ends, partitions)
    counts = Counter[str]()
    for at, count in writer.ends.items():
        counts[at.topic] += count
    return Made(counts, time.monotonic() - began)


def _require_all(
    kept: Mapping[TopicPartition, history.HeldHistory], writer: history.HistoryWriter
) -> None:
    """See that history is no shorter than what was there. Raises `ConfigurationError`."""
    for at, found in kept.items():
        if found.end > writer.ends.get(at, 0):
            raise ConfigurationError(
                f"{at.topic} holds more than these files make ({found.end:,} records of partition "
                f"{at.partition}, not {writer.ends.get(at, 0):,}) - run it with the files that it "
                "was begun with"
            )


def _written(pipeline: Pipeline) -> tuple[str, ...]:
    topics = pipeline.topics
    return (
        topics.events,
        topics.feedback,
        topics.scored,
        topics.examples,
        topics.dead_letters,
        topics.predictions,
    )
