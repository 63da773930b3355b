"""Dead letters as a list to work through: read, and put back where they came from."""

from __future__ import annotations

from collections.abc import Iterable

from streams.dead_letters import DeadLetter, parse
from streams.kafka.connection import producer
from streams.kafka.offsets import offsets_client
from streams.kafka.reading import read_range
from streams.kafka.topics import ensure_topics
from streams.ports.batches import SourceRecord
from streams.settings import Settings
from streams.spec import Pipeline


async def read_dead_letters(settings: Settings, pipeline: Pipeline) -> list[DeadLetter]:
    """Every dead letter that the topic still holds, oldest first."""
    await ensure_topics(settings, pipeline)
    topic = pipeline.topics.dead_letters
    async with offsets_client(settings) as asked:
        ends = await asked.ends(topic)
    records: list[SourceRecord] = []
    for partition, end in ends.items():
        async for found in read_range(settings, topic, partition, 0, end):
            records += found
    return parse(records)


async def replay(settings: Settings, pipeline: Pipeline, letters: Iterable[DeadLetter]) -> None:
    """Put records back onto the topic and partition that they came from, and note that.

    All of it in one transaction.
    """
    name = f"driftloop.{pipeline.name}.dlq"
    async with producer(settings, transactional_id=name) as sink, sink.transaction():
        for letter in letters:
            topic, partition, _ = letter.source
            await sink.send(
                topic,
                key=letter.key,
                value=letter.value,
                partition=partition,
                headers=letter.replay_headers(),
            )
            await sink.send(
                pipeline.topics.dead_letters,
                key=letter.key,
                value=None,
                partition=letter.partition,
                headers=letter.replay_note(),
            )
