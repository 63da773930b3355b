"""Taking one record out of a worker's way, for the day when all else fails."""

from __future__ import annotations

import re

from streams.dead_letters import dead_letter
from streams.errors import BadRecord, ConfigurationError
from streams.kafka.offsets import offsets_client
from streams.kafka.reading import read_exactly
from streams.kafka.topics import groups
from streams.kafka.writing import append_past
from streams.ledger.topic import user
from streams.ports.batches import TopicPartition
from streams.settings import Settings
from streams.spec import Pipeline

Place = tuple[str, int, int]
"""Topic, partition and offset."""


def parse_place(pipeline: Pipeline, text: str) -> Place:
    """A record's place, written `TOPIC-PARTITION-OFFSET`.

    Raises:
        ConfigurationError: it is not written like that, or no worker reads the topic.
    """
    read = [*groups(pipeline)]
    match = re.fullmatch(r"(.+)-(\d{1,9})-(\d{1,18})", text)
    if match is None or match[1] not in read:
        raise ConfigurationError(
            f"{text!r} is not a record that a worker reads - write TOPIC-PARTITION-OFFSET, as in "
            f"{read[0]}-0-117; the topics are {', '.join(read)}"
        )
    return match[1], int(match[2]), int(match[3])


async def skip(settings: Settings, pipeline: Pipeline, place: Place) -> None:
    """Set the record aside as a dead letter, and commit the offset after it, in one transaction.

    A worker that has the partition is fenced by that, and starts over after the record.

    Raises:
        ConfigurationError: the group does not stand at this record.
        OffsetsMissing: there is no such record.
        Unavailable: no broker answers.
    """
    topic, partition, offset = place
    group = groups(pipeline)[topic]
    async with offsets_client(settings) as asked:
        at = (await asked.committed(group, topic, [partition]))[partition]
    if at != offset:
        raise ConfigurationError(
            f"group {group} stands at offset {at or 0} of partition {partition} of {topic}, not at "
            f"{offset} - only the record that it stands at can be skipped"
        )
    records = read_exactly(settings, topic, {partition: (offset, offset + 1)})
    [record] = [one async for found in records for one in found]
    bad = BadRecord("skipped", f"by {user()}")
    await append_past(
        settings,
        transactional_id=f"{group}-{partition}",
        group=group,
        source=TopicPartition(topic, partition),
        after=offset + 1,
        written=(pipeline.topics.dead_letters, dead_letter(record, bad)),
    )
