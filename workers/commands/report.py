"""`report`: live quality and roll-outs as one page with pictures."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from streams.errors import ConfigurationError
from streams.ledger.state import state_after
from streams.ledger.topic import read_entries
from streams.metering.prices import Prices
from streams.records import LedgerEntry, Shadowed
from streams.settings import Settings
from streams.spec import Pipeline
from streams.sums import Cell
from workers.costs.reading import read_usages
from workers.costs.statement import Statement, statement
from workers.environment import connected_settings, find_pipeline
from workers.evaluation.live_drift import DriftRow, read_drift
from workers.evaluation.progressive import read_cells
from workers.rollouts.shadowed import read_shadowed
from workers.terminal import Module, console, out, plain

_MOST_SHADOWED = 500_000
"""A longer `P.shadow` is not read: that takes some seconds and 200 MB."""


def report(
    module: Module,
    file: Annotated[
        Path | None,
        typer.Option("--out", help="Where to write the page; <pipeline>-report.html if absent."),
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Write each picture to this folder as well.")
    ] = None,
) -> None:
    """Write a page that shows how good each version is, and how it came to serve."""
    # here: it loads matplotlib, which no other command needs
    from workers.reports.live import Known, live_report

    pipeline, settings = find_pipeline(module), connected_settings(module, needs=("kafka",))
    with console.status("reading P.metrics, P.drift, P.models, P.shadow and P.costs"):
        page = live_report(Known(pipeline, *asyncio.run(_read(settings, pipeline))))
        path = file or Path(f"{pipeline.name}-report.html")
        try:
            page.write(path)
            pictures = page.write_pictures(png) if png else []
        except OSError as error:
            raise ConfigurationError(
                f"cannot write {error.filename} ({error.strerror}) - give another place with "
                "--out, and --png"
            ) from None
    out.print(f"{plain(path)}: {path.stat().st_size / 1000:,.0f} kB", soft_wrap=True)
    if png:
        out.print(f"{plain(png)}: {len(pictures)} pictures", soft_wrap=True)


async def _read(
    settings: Settings, pipeline: Pipeline
) -> tuple[list[Cell], list[LedgerEntry], list[Shadowed] | None, list[DriftRow], Statement]:
    cells, entries = await read_cells(settings, pipeline), await read_entries(settings, pipeline)
    now = state_after(entries)
    live = await read_drift(settings, pipeline)
    drift = live.rows({version: made.reference for version, made in now.versions.items()})
    usages, prices = await read_usages(settings, pipeline), Prices.of_settings(settings)
    spent = statement(usages, now, pipeline, prices, (0.0, time.time()))
    shadowed: list[Shadowed] | None = []
    if now.challenger:
        shadowed = await read_shadowed(settings, pipeline, _MOST_SHADOWED)
    return cells, entries, shadowed, drift, spent
