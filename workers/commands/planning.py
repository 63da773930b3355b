"""`plan`: what a load would take."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from streams.settings import load_settings
from streams.spec import Pipeline
from streams.testing import Rehearsal, sample_events
from workers.environment import find_pipeline
from workers.processes.looking import true_rate
from workers.resources.planning import CapacityPlan
from workers.resources.planning import plan as planned
from workers.terminal import Module, out

_BATCH, _BATCHES = 1024, 6


def plan(
    module: Module,
    events_per_second: Annotated[
        float, typer.Option("--events-per-second", min=0.001, help="The load to plan for.")
    ],
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Events that a worker does a second, where that is known."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as a JSON object.")] = False,
) -> None:
    """Say how many workers and partitions, and how much Redis memory, a load would take."""
    pipeline = find_pipeline(module)
    found = (rate, "as given") if rate else asyncio.run(_measured(pipeline))
    made = planned(pipeline, events_per_second, *found)
    if as_json:
        out.print_json(json.dumps(asdict(made)))
    else:
        out.print(_table(pipeline, made))


async def _measured(pipeline: Pipeline) -> tuple[float, str]:
    """What a worker can do, and how that is known."""
    workers, rate = await true_rate(load_settings(), pipeline)
    if rate:
        return rate, f"measured: the {workers} that run here are behind"
    why = "those that run here have too little to do to show it" if workers else "none runs here"
    rate = await _rehearsed(pipeline)
    return rate, f"rehearsed in memory, without Kafka, Triton and Redis, so less in truth: {why}"


async def _rehearsed(pipeline: Pipeline) -> float:
    """Events a second of the pipeline's own code, by the fastest of some micro-batches."""
    rehearsal = Rehearsal(pipeline)
    events = sample_events(pipeline, _BATCH * _BATCHES)
    best = 0.0
    for start in range(0, len(events), _BATCH):
        begun = time.perf_counter()
        await rehearsal.score(events[start : start + _BATCH])
        best = max(best, _BATCH / (time.perf_counter() - begun))
    return best


def _table(pipeline: Pipeline, made: CapacityPlan) -> Table:
    policy = pipeline.policies.scale
    title = f"{pipeline.name} at {made.events_per_second:,.6g} events a second"
    table = Table("", "", "", title=title, show_header=False)
    above = f"; more than max={policy.max}, raise it" if made.above_max else ""
    table.add_row("scoring workers", f"{made.workers:,}", f"each busy for {policy.use:.0%}{above}")
    table.add_row("partitions", f"{made.partitions:,}", "at least: one for each worker")
    table.add_row(
        "Redis memory", _size(made.redis_bytes), "for events in windows; entities come on top"
    )
    table.add_row("a worker does", f"{made.rate:,.0f} a second", made.source)
    return table


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:,.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"
