"""Live quality: the cells of `P.metrics`, read from their topic."""

from __future__ import annotations

from streams.kafka.reading import read_topic
from streams.records import decoder
from streams.settings import Settings
from streams.spec import Pipeline
from streams.sums import Cell

_decode = decoder(Cell).decode


async def read_cells(settings: Settings, pipeline: Pipeline) -> list[Cell]:
    """Every cell of every partition, as it was written last. Raises `Unavailable`."""
    records = await read_topic(settings, pipeline.topics.metrics)
    latest = {(record.partition, record.key): record.value for record in records}
    return [_decode(value) for value in latest.values() if value]
