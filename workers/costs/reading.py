"""`P.costs`, read."""

from __future__ import annotations

from collections.abc import Iterable

from streams.kafka.reading import read_topic
from streams.metering.account import Usage
from streams.records import decoder
from streams.settings import Settings
from streams.spec import Pipeline

_decode = decoder(Usage).decode


async def read_usages(settings: Settings, pipeline: Pipeline) -> list[Usage]:
    """What every process has used on each of its days. Raises `Unavailable`."""
    records = await read_topic(settings, pipeline.topics.costs)
    return latest(_decode(record.value) for record in records if record.value)


def latest(records: Iterable[Usage]) -> list[Usage]:
    """Of each process and day the record that holds most; of equal ones the later."""
    found: dict[str, Usage] = {}
    for one in records:
        known = found.get(one.key)
        if known is None or one.seconds >= known.seconds:
            found[one.key] = one
    return list(found.values())
