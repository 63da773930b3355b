"""`P.costs`, read."""

from __future__ import annotations

from collections.abc import Iterable

from streams.kafka.reading import TopicFollower
from streams.kafka.topics import topic_exists
from streams.metering.account import Usage
from streams.records import decoder
from streams.settings import Settings
from streams.spec import Pipeline

_decode = decoder(Usage).decode


async def read_usages(settings: Settings, pipeline: Pipeline) -> list[Usage]:
    """What every process has used on each of its days. Raises `Unavailable`."""
    topic = pipeline.topics.costs
    if not await topic_exists(settings, topic):
        return []
    follower = TopicFollower(settings, topic)
    await follower.start()
    try:
        records = await follower.read_to_end()
    finally:
        await follower.stop()
    return latest(_decode(record.value) for record in records if record.value)


def latest(records: Iterable[Usage]) -> list[Usage]:
    """Of each process and day the record that holds most; of equal ones the later."""
    found: dict[str, Usage] = {}
    for one in records:
        known = found.get(one.key)
        if known is None or one.seconds >= known.seconds:
            found[one.key] = one
    return list(found.values())
