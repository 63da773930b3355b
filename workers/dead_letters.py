"""Dead letters as a list to work through: read, picked, and put back where they came from.

A replay is noted in the same topic, in the same transaction as the replayed record: a record with
the cause `replayed` that names the one it stands for. So a dead letter is not replayed twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from aiokafka import ConsumerRecord

from streams.scoring import ATTEMPT
from streams.settings import Settings
from streams.spec import Pipeline
from streams.transport.clients import (
    ensure_topics,
    partitions_of,
    producer,
    read_range,
    reader,
)

REPLAYED = "replayed"
_OF = "replay-of"
_FROM = "replayed-from"


@dataclass(frozen=True)
class DeadLetter:
    """A record that could not be processed, whole, and why."""

    partition: int
    offset: int
    """Where it lies in the dead letters; together its reference, `<partition>-<offset>`."""
    at: float
    """When it was set aside, seconds since 1970."""
    cause: str
    detail: str
    source: tuple[str, int, int]
    """Topic, partition and offset of the record that it is."""
    attempts: int
    """How many times it had been replayed before."""
    key: bytes | None
    value: bytes | None
    replayed: bool = field(default=False, compare=False)
    """Whether it has been put back since."""

    @property
    def reference(self) -> str:
        """What names it on the command line."""
        return f"{self.partition}-{self.offset}"


async def read_dead_letters(settings: Settings, pipeline: Pipeline) -> list[DeadLetter]:
    """Every dead letter that the topic still holds, oldest first."""
    await ensure_topics(settings, pipeline)
    records = await _read_all(settings, pipeline.topics.dead_letters)
    found: dict[str, DeadLetter] = {}
    replayed: set[str] = set()
    for record in sorted(records, key=lambda r: (r.timestamp, r.partition, r.offset)):
        headers = {name: text.decode(errors="replace") for name, text in record.headers}
        if headers.get("cause") == REPLAYED:
            replayed.add(headers[_OF])
        elif "cause" in headers:
            letter = _letter(record, headers)
            found[letter.reference] = letter
    return [replace(letter, replayed=reference in replayed) for reference, letter in found.items()]


def _letter(record: ConsumerRecord, headers: dict[str, str]) -> DeadLetter:
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        at=record.timestamp / 1000,
        cause=headers["cause"],
        detail=headers.get("detail", ""),
        source=(headers["topic"], int(headers["partition"]), int(headers["offset"])),
        attempts=int(headers.get(ATTEMPT, 0)),
        key=record.key,
        value=record.value,
    )


async def _read_all(settings: Settings, topic: str) -> list[ConsumerRecord]:
    """The committed records of a topic, up to its end as of now."""
    consumer = reader(settings)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(await partitions_of(consumer, topic))
    finally:
        await consumer.stop()
    records: list[ConsumerRecord] = []
    for partition, end in ends.items():
        async for found in read_range(settings, partition, 0, end):
            records += found
    return records


async def replay(settings: Settings, pipeline: Pipeline, letters: Iterable[DeadLetter]) -> None:
    """Put records back onto the topic and partition that they came from, and note that.

    All of it in one transaction.
    """
    name = f"driftloop.{pipeline.name}.dlq"
    async with producer(settings, transactional_id=name) as sink, sink.transaction():
        for letter in letters:
            reference = letter.reference.encode()
            topic, partition, _ = letter.source
            again = [(_FROM, reference), (ATTEMPT, b"%d" % (letter.attempts + 1))]
            await sink.send(
                topic, key=letter.key, value=letter.value, partition=partition, headers=again
            )
            note = [("cause", REPLAYED.encode()), ("detail", f"onto {topic}".encode()),
                    (_OF, reference)]  # fmt: skip
            await sink.send(
                pipeline.topics.dead_letters, key=letter.key, value=None, headers=note,
                partition=letter.partition,
            )  # fmt: skip
