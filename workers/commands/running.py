"""`score`, `label`, `up`: the processes of the loop."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from workers.commands.common import Module, connected_settings, find_pipeline


def score(module: Module) -> None:
    """Score events: one worker of the group that shares the partitions."""
    _run(module, "score")


def label(module: Module) -> None:
    """Join labels with what was served, and write examples: one worker of its group."""
    _run(module, "label")


def _run(module: str, role: str) -> None:
    from streams.wiring import check_servers, labelling_app, scoring_app
    from workers.processes import run_app

    pipeline = find_pipeline(module)
    settings = connected_settings(module)
    asyncio.run(check_servers(settings, pipeline, triton=role == "score"))
    build = scoring_app if role == "score" else labelling_app
    run_app(build, settings, pipeline, role)


def up(
    module: Module,
    workers: Annotated[int, typer.Option(min=1, help="Scoring workers to run.")] = 1,
) -> None:
    """Run the whole loop: servers where none are given, scoring, labelling and the trainer."""
    from workers.up import run_up

    run_up(module, find_pipeline(module), workers)
