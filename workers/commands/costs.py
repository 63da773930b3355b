"""`costs`: what was used, what that cost, and what came of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from streams.kafka.kept import kept_bytes
from streams.ledger.state import LedgerState
from streams.ledger.topic import read_state
from streams.metering.account import Usage
from streams.metering.prices import Prices
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.durations import seconds
from workers.costs.budget import money
from workers.costs.reading import read_usages
from workers.costs.statement import Statement, statement
from workers.costs.summing import Spent
from workers.environment import connected_settings, find_pipeline
from workers.terminal import Module, out, plain


class By(StrEnum):
    """What costs are added up by."""

    ROLE = "role"
    VERSION = "version"
    DAY = "day"


def costs(
    module: Module,
    by: Annotated[By, typer.Option(help="Add up by role, version or day.")] = By.ROLE,
    since: Annotated[
        str | None, typer.Option(help="Only the latest days, as in 7d; all of them if absent.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what the pipeline has used, what that cost, and what a retrain gains for it."""
    pipeline, settings = find_pipeline(module), connected_settings(module, needs=("kafka",))
    prices, now = Prices.of_settings(settings), time.time()
    first = now - seconds(since, "--since") if since is not None else 0.0
    usages, ledger, kept = asyncio.run(_read(settings, pipeline))
    said = replace(statement(usages, ledger, pipeline, prices, (first, now)), kept=kept)
    rows = said.parts(by.value)
    if as_json:
        found = {"by": by.value, "rows": {name: asdict(one) for name, one in rows.items()}}
        out.print_json(json.dumps(found | said.figures()), indent=None)
        return
    if not said.usages:
        out.print(
            f"nothing has been written down yet of what {pipeline.name} uses - each worker does so "
            "a minute after its start, and when it ends"
        )
        return
    title = f"Costs of {pipeline.name}, {said.period} ({prices.currency})"
    out.print(_table(title, by, rows, said))
    for line in said.lines():
        out.print(plain(line), soft_wrap=True)


async def _read(
    settings: Settings, pipeline: Pipeline
) -> tuple[list[Usage], LedgerState, int | None]:
    topics = (*pipeline.topics.partitioned, *pipeline.topics.single)
    kept = await kept_bytes(settings, topics)
    return await read_usages(settings, pipeline), await read_state(settings, pipeline), kept


def _table(title: str, by: By, rows: Mapping[str, Spent], said: Statement) -> Table:
    table = Table(title=plain(title), title_justify="left", box=None, pad_edge=False)
    table.add_column(by.value.capitalize())
    for name in ("CPU h", "GiB h", "GPU h", "Cost"):
        table.add_column(name, justify="right")
    for name, one in {**rows, "all": said.total}.items():
        table.add_row(
            plain(name),
            f"{one.cpu_hours:,.3f}",
            f"{one.gib_hours:,.3f}",
            f"{one.gpu_hours:,.3f}" if one.gpu_hours else "-",
            money(one.cost) if said.priced else "-",
        )
    return table
