"""Dead letters as a list to work through: read, and put back where they came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import structlog

from streams.dead_letters import DeadLetter, parse
from streams.errors import ConfigurationError, OffsetsMissing
from streams.kafka.connection import producer
from streams.kafka.offsets import offsets_client
from streams.kafka.reading import read_exactly, read_range
from streams.kafka.topics import ensure_topics
from streams.ports.batches import SourceRecord
from streams.settings import Settings
from streams.spec import Pipeline

log = structlog.get_logger(__name__)


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
    letters, others = parse(records)
    if others:
        log.warning("passing over records that are no dead letters", topic=topic, records=others)
    return letters


async def replay(settings: Settings, pipeline: Pipeline, letters: Sequence[DeadLetter]) -> None:
    """Put records back onto the topic and partition that they came from, and note that.

    All of it in one transaction.

    Raises:
        ConfigurationError: one did not come from the pipeline's events or feedback, or was not kept
            whole and is gone from its topic; nothing is put back then.
    """
    await _check_sources(settings, pipeline, letters)
    whole = [await _whole(settings, letter) for letter in letters]
    name = f"driftloop.{pipeline.name}.dlq"
    async with producer(settings, transactional_id=name) as sink, sink.transaction():
        for letter in whole:
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


async def _check_sources(
    settings: Settings, pipeline: Pipeline, letters: Iterable[DeadLetter]
) -> None:
    inputs = (pipeline.topics.events, pipeline.topics.feedback)
    async with offsets_client(settings) as asked:
        partitions = {topic: await asked.ends(topic) for topic in inputs}
    for letter in letters:
        topic, partition, _ = letter.source
        if topic not in inputs:
            raise ConfigurationError(
                f"dead letter {letter.reference} came from {topic}, which is no input of "
                f"{pipeline.name} - only records of {' and '.join(inputs)} are put back"
            )
        if partition not in partitions[topic]:
            raise ConfigurationError(
                f"dead letter {letter.reference} came from partition {partition} of {topic}, "
                f"which has {len(partitions[topic])} - leave it out"
            )


async def _whole(settings: Settings, letter: DeadLetter) -> DeadLetter:
    """The dead letter with key and value as they came, read where they lie if need be."""
    if letter.whole:
        return letter
    topic, partition, offset = letter.source
    try:
        async for records in read_exactly(settings, topic, {partition: (offset, offset + 1)}):
            for record in records:
                return replace(letter, key=record.key, value=record.value)
    except OffsetsMissing:
        pass
    raise ConfigurationError(
        f"dead letter {letter.reference} was too large to be kept whole, and {topic} no longer "
        f"holds offset {offset} of partition {partition} - leave it out"
    )
