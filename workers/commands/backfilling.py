"""`backfill`: a pipeline's state, examples and first version out of history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.spec import Pipeline
from workers.commands.training import train_recent
from workers.commands.world_options import WorldLimit, WorldName
from workers.environment import connected_settings, find_pipeline, make_state_dir
from workers.operations.files import FilesRead, InOrder, TimedRecord, records
from workers.operations.resetting import require_idle, reset
from workers.operations.worlds import world_records
from workers.terminal import Module, console, note, out
from workers.worlds.catalogue import find_world

if TYPE_CHECKING:
    from streams.backfill.history import Made


def backfill(
    module: Module,
    events: Annotated[
        Path | None,
        typer.Option(help="Events in the order of their times: .ndjson, .jsonl, .json or .csv."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Labels in the order in which they became known: event_id, label, labelled_at and "
            "the field that keys events."
        ),
    ] = None,
    world: WorldName = None,
    limit: WorldLimit = None,
    train: Annotated[
        bool, typer.Option(help="Train, judge and publish a first version afterwards.")
    ] = True,
) -> None:
    """Build feature state, examples and a first version from history, as streaming would have.

    For a pipeline without events. Killed half-way, run it again with the same files: it goes on.
    """
    if (events is None) == (world is None):
        raise ConfigurationError("give a file of --events, with its --labels, or a --world")
    if world is not None and labels is not None:
        raise ConfigurationError("a --world brings its own labels - give it without")
    if limit is not None and world is None:
        raise ConfigurationError("--limit is of a --world: of a file, give a shorter one")
    pipeline = find_pipeline(module)
    settings = connected_settings(module, needs=("kafka", "redis", *(["triton"] if train else [])))
    reading = FilesRead()
    if world is None:
        found: Iterable[TimedRecord] = records(pipeline, events, labels, reading)
    else:
        chosen = find_world(world)
        found = world_records(pipeline, chosen, settings.cache_dir, note, limit)
        note(f"{chosen.name}: {chosen.schema}")
        note(f"licence: {chosen.licence}")
    made = asyncio.run(_backfill(settings, pipeline, InOrder(found), reading))
    topics = pipeline.topics
    out.print(
        f"{made.of(topics.events):,} events and {made.of(topics.feedback):,} labels in "
        f"{made.seconds:.1f} s ({made.of(topics.events) / made.seconds:,.0f} events/s): "
        f"{made.of(topics.scored):,} in {topics.scored}, {made.of(topics.examples):,} in "
        f"{topics.examples}, {made.of(topics.dead_letters):,} in {topics.dead_letters}"
    )
    out.print("predictions were not written: nobody was served then")
    out.print(f"next, `driftloop up {module}`: it goes on where history ends")
    if train:
        train_recent(settings, pipeline)


async def _backfill(
    settings: Settings, pipeline: Pipeline, found: Iterable[TimedRecord], reading: FilesRead
) -> Made:
    from streams.backfill.history import backfill, written_at

    make_state_dir(settings)
    await require_idle(settings, pipeline)
    written = await written_at(settings, pipeline)
    if written is not None:
        note("a backfill was begun before: what it has written already is passed over")
    reset(settings, pipeline)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task, done = bar.add_task("reading", total=reading.size or None), 0

        def progress(records: int) -> None:
            nonlocal done
            done += records
            seconds = bar.tasks[task].elapsed or 1.0
            said = f"{done:,} records, {done / seconds:,.0f}/s"
            bar.update(task, description=said, completed=reading.done)

        return await backfill(settings, pipeline, found, progress, written)
