"""A world's events and labels as records of a pipeline that has their fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from streams.errors import ConfigurationError
from streams.spec import Pipeline
from streams.spec.fields import json_name
from workers.fetching import Notify
from workers.operations.files import TimedRecord, event_record, label_record
from workers.worlds.world import DataWorld, EventRow, LabelRow


def world_records(
    pipeline: Pipeline, world: DataWorld, cache: Path, progress: Notify, limit: int | None = None
) -> Iterator[TimedRecord]:
    """The records of a world's first `limit` events and their labels, in the order of its timeline.

    Its packages are fetched when this is called.

    Raises:
        ConfigurationError: the pipeline's events are named otherwise than the world's; or a package
            is not what was pinned.
        Unavailable: a download failed.
    """
    event = pipeline.event
    for field, theirs in ((event.key, world.key), (event.id, "event_id"), (event.time, "at")):
        ours = json_name(event.schema, field)
        if ours != theirs:
            raise ConfigurationError(
                f"{world.name} says {theirs!r} where {pipeline.name} reads {ours!r} - send it to a "
                "pipeline whose events are declared with its names"
            )
    return _records(pipeline, world.name, world.timeline(cache, progress, limit))


def _records(
    pipeline: Pipeline, name: str, timeline: Iterable[EventRow | LabelRow]
) -> Iterator[TimedRecord]:
    for number, found in enumerate(timeline, 1):
        record = event_record if isinstance(found, EventRow) else label_record
        yield record(pipeline, found.row, f"{name}, record {number}", 0.0)
