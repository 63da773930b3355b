"""Live quality: the cells of `P.metrics`, read from their topic."""

from __future__ import annotations

from streams.kafka.reading import TopicFollower
from streams.kafka.topics import topic_exists
from streams.records import Cell, decoder
from streams.settings import Settings
from streams.spec import Pipeline

_decode = decoder(Cell).decode


async def read_cells(settings: Settings, pipeline: Pipeline) -> list[Cell]:
    """Every cell of every partition, as it was written last. Raises `Unavailable`."""
    topic = pipeline.topics.metrics
    if not await topic_exists(settings, topic):
        return []
    follower = TopicFollower(settings, topic)
    await follower.start()
    try:
        records = await follower.read_to_end()
    finally:
        await follower.stop()
    latest = {(record.partition, record.key): record.value for record in records}
    return [_decode(value) for value in latest.values() if value]
