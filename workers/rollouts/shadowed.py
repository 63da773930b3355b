"""What champion and challenger say of the same events: `P.shadow`, read."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import structlog

from streams.kafka.reading import following
from streams.kafka.topics import topic_exists
from streams.ports.batches import SourceRecord
from streams.records import Shadowed, decoder
from streams.settings import Settings
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

_decode = decoder(Shadowed).decode


async def read_shadowed(settings: Settings, pipeline: Pipeline, most: int) -> list[Shadowed] | None:
    """Every record of the topic; None where it spans more than `most` offsets.

    Raises:
        Unavailable: no broker answers.
    """
    topic = pipeline.topics.shadow
    if not await topic_exists(settings, topic):
        return []
    async with following(settings, topic) as follower:
        starts, ends = await follower.starts(), await follower.ends(topic)
        if sum(end - starts[partition] for partition, end in ends.items()) > most:
            return None
        return decode_shadowed(await follower.read_to_end())


def decode_shadowed(records: Iterable[SourceRecord]) -> list[Shadowed]:
    """What records of `P.shadow` say; one that cannot be read is logged and passed over."""
    found = []
    for record in records:
        if record.value is None:
            continue
        try:
            found.append(_decode(record.value))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            log.error(
                "a compared event cannot be read, passing over it",
                partition=record.partition,
                offset=record.offset,
                error=str(error),
            )
    return found
