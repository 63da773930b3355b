"""`plan`: what a load would take."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from streams.errors import ConfigurationError, Unavailable
from streams.metering.account import DAY
from streams.metering.prices import Prices
from streams.settings import Settings, load_settings
from streams.spec import Pipeline
from streams.testing import Rehearsal, sample_events
from workers.costs.budget import money
from workers.costs.reading import read_usages
from workers.costs.summing import per_million, within
from workers.environment import connected_settings, find_pipeline
from workers.processes.looking import true_rate
from workers.resources.planning import CapacityPlan, Costing
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
    """Say how many workers, partitions and Tritons, and how much memory and money a load takes."""
    pipeline, settings = find_pipeline(module), load_settings()
    known = asyncio.run(_known(settings, pipeline, rate))
    made = planned(pipeline, events_per_second, known)
    if as_json:
        out.print_json(json.dumps(asdict(made)))
    else:
        out.print(_table(pipeline, made, Prices.of_settings(settings)))


async def _known(settings: Settings, pipeline: Pipeline, given: float | None) -> Costing:
    """What a worker can do and how that is known, what Triton takes, and what serving costs."""
    workers, rate, triton = await true_rate(settings, pipeline)
    each = await _per_million(settings, pipeline)
    if given or rate:
        said = "as given" if given else f"measured: the {workers} that run here are behind"
        return Costing(given or rate, said, triton, each)
    why = "those that run here have too little to do to show it" if workers else "none runs here"
    said = f"rehearsed in memory, without Kafka, Triton and Redis, so less in truth: {why}"
    return Costing(await _rehearsed(pipeline), said, triton, each)


async def _per_million(settings: Settings, pipeline: Pipeline) -> float | None:
    """What a million predictions have cost in the last day; None where nobody can say."""
    prices = Prices.of_settings(settings)
    if not prices.given:
        return None
    try:
        usages = await read_usages(connected_settings(needs=("kafka",)), pipeline)
    except (ConfigurationError, Unavailable):  # a plan is made without servers, too
        return None
    return per_million(within(usages, time.time() - DAY), prices)


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


def _table(pipeline: Pipeline, made: CapacityPlan, prices: Prices) -> Table:
    policy = pipeline.policies.scale
    title = f"{pipeline.name} at {made.events_per_second:,.6g} events a second"
    table = Table("", "", "", title=title, show_header=False)
    above = f"; more than max={policy.max}, raise it" if made.above_max else ""
    used = f"each busy for {policy.use:.0%}"
    table.add_row("scoring workers", f"{made.workers:,}", f"{used}{above}")
    table.add_row("partitions", f"{made.partitions:,}", "at least: one for each worker")
    if made.triton_instances is None:
        table.add_row("Triton instances", "?", "no worker runs here that has events to show it by")
    else:
        table.add_row("Triton instances", f"{made.triton_instances:,}", f"over all, {used}")
    table.add_row(
        "Redis memory", _size(made.redis_bytes), "for events in windows; entities come on top"
    )
    if made.cost_per_day is not None:
        cost = f"{money(made.cost_per_day)} {prices.currency}"
        table.add_row("serving on a day", cost, "by what a prediction has cost in the last day")
    elif prices.given:
        table.add_row("serving on a day", "?", "no prediction of the last day shows what one costs")
    else:
        table.add_row("serving on a day", "?", "nothing has a price: `driftloop settings`")
    table.add_row("a worker does", f"{made.rate:,.0f} a second", made.source)
    return table


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:,.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"
