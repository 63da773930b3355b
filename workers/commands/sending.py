"""`send`: events and labels of files, or of a world, onto a pipeline's topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from streams.errors import ConfigurationError
from streams.kafka.connection import producer
from streams.kafka.topics import ensure_topics
from streams.kafka.writing import send_all
from streams.settings import Settings
from streams.spec import Pipeline
from workers.commands.world_options import WorldLimit, WorldName
from workers.environment import connected_settings, find_pipeline
from workers.operations.files import TimedRecord, records
from workers.operations.worlds import world_records
from workers.terminal import Module, console, note, out
from workers.worlds.catalogue import find_world

_MOST = 2000
"""Records that are on their way at a time."""
_LOOK = 0.05
"""Seconds of records that are sent at once, where they are paced."""

When = Callable[[int, TimedRecord], float]
"""Seconds after the beginning at which a record goes out, by its number."""


def send(
    module: Module,
    events: Annotated[
        Path | None, typer.Argument(help="Events: .ndjson, .jsonl, .json or .csv.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels: event_id, label, labelled_at and the field that keys events."),
    ] = None,
    world: WorldName = None,
    limit: WorldLimit = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Records a second; else as fast as it goes."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="In event time, so many times as fast as it went."),
    ] = None,
) -> None:
    """Publish events and labels, of files or a world: as fast as it goes, at a rate, in event time.

    With both, labels go out in between, when they became known. A bad record becomes a dead letter.
    """
    files = events is not None or labels is not None
    if not files and world is None:
        raise ConfigurationError("nothing to send - give a file of events, --labels, or a --world")
    if files and world is not None:
        raise ConfigurationError("a --world brings its own events and labels - send files without")
    if limit is not None and world is None:
        raise ConfigurationError("--limit is of a --world: of a file, send a shorter one")
    if rate is not None and speed is not None:
        raise ConfigurationError("give one of --rate and --speed")
    chosen = None if world is None else find_world(world)
    pipeline = find_pipeline(module)
    settings = connected_settings(module, needs=("kafka",))
    if chosen is None:
        made = records(pipeline, events, labels)
    else:
        made = world_records(pipeline, chosen, settings.cache_dir, note, limit)
        note(f"{chosen.name}: {chosen.schema}")
        note(f"times: {chosen.times}")
        note(f"licence: {chosen.licence}")
    count = asyncio.run(_send(settings, pipeline, made, rate, speed))
    out.print(f"published {count:,} records; next, `driftloop tail {module} predictions`")


async def _send(
    settings: Settings,
    pipeline: Pipeline,
    made: Iterable[TimedRecord],
    rate: float | None,
    speed: float | None,
) -> int:
    await ensure_topics(settings, pipeline)
    sent, found = 0, iter(made)
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("publishing", total=None)
        async with producer(settings, linger_ms=5) as writing:
            for block, pause in blocks(found, due(rate, speed), time.monotonic):
                await asyncio.sleep(pause)
                await send_all(writing, (record[1:] for record in block))
                sent += len(block)
                progress.update(task, description=f"{sent:,} records")
    return sent


def due(rate: float | None, speed: float | None) -> When | None:
    """When records go out; None for as fast as it goes."""
    if rate is not None:
        return lambda number, _: number / rate
    if speed is None:
        return None
    first: list[float] = []

    def when(_: int, record: TimedRecord) -> float:
        if not first:
            first.append(record.at)
        return (record.at - first[0]) / speed

    return when


def blocks(
    found: Iterator[TimedRecord], when: When | None, clock: Callable[[], float]
) -> Iterator[tuple[list[TimedRecord], float]]:
    """Records that go out together, and seconds to wait before; read as they are needed."""
    if when is None:
        while block := list(islice(found, _MOST)):
            yield block, 0.0
        return
    begun, block, until = clock(), list[TimedRecord](), 0.0
    for number, record in enumerate(found):
        at = when(number, record)
        if block and (at > until or len(block) >= _MOST):
            yield block, max(0.0, begun + until - _LOOK - clock())
            block = []
        if not block:
            until = at + _LOOK
        block.append(record)
    if block:
        yield block, max(0.0, begun + until - _LOOK - clock())
