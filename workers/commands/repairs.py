"""`state reset`, `skip`: what an operator does when derived state, or one record, is in the way."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from workers.environment import connected_settings, find_pipeline
from workers.operations.resetting import require_idle
from workers.operations.resetting import reset as forget
from workers.operations.skipping import parse_place
from workers.operations.skipping import skip as set_aside
from workers.terminal import Module, out

app = typer.Typer(no_args_is_help=True, help="What workers derive from topics: reset.")

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def reset(module: Module, yes: Yes = False) -> None:
    """Forget feature state and label stores: workers derive them from the topics again.

    Windows then count what the topics still hold. Stop the workers first. Predictions, examples and
    committed offsets stay as they are.
    """
    pipeline, settings = find_pipeline(module), connected_settings(module)
    asyncio.run(require_idle(settings, pipeline))
    if not yes:
        typer.confirm(f"forget the feature state and label stores of {pipeline.name}?", abort=True)
    keys, stores = forget(settings, pipeline)
    out.print(
        f"forgot {keys:,} keys and {stores} label stores of {pipeline.name}; the next "
        f"`driftloop up {module}` reads its topics from their beginning to bring them back"
    )


def skip(
    place: Annotated[
        str, typer.Argument(metavar="TOPIC-PARTITION-OFFSET", help="The record to set aside.")
    ],
    module: Module,
    yes: Yes = False,
) -> None:
    """Set one record aside that a worker cannot get past, and go on after it.

    For the day when all else fails: workers set bad records aside by themselves. The record becomes
    a dead letter with the cause `skipped`.
    """
    pipeline, settings = find_pipeline(module), connected_settings(module)
    at = parse_place(pipeline, place)
    if not yes:
        typer.confirm(f"set the record at {place} aside?", abort=True)
    asyncio.run(set_aside(settings, pipeline, at))
    out.print(f"set aside; see it with `driftloop dlq list {module} --cause skipped`")
