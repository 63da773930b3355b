"""`models drift`: whether what is served is still as where each version was trained."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from streams.ledger.topic import read_state
from streams.settings import Settings
from streams.spec import Pipeline
from workers.environment import connected_settings, find_pipeline
from workers.evaluation.drift import ColumnDrift
from workers.evaluation.live_drift import DriftRow, read_drift, with_labels
from workers.evaluation.progressive import read_cells
from workers.terminal import Module, out, plain

_NAMED = 3
"""Columns that an alarm names; another row names the one that moved most."""
_DAY = 86_400
_COLUMNS = ("From", "Version", "Events", "Drift", "Outside", "Fallback", "Labelled", "Moved most")


def drift(
    module: Module,
    last: Annotated[int, typer.Option(min=1, help="So many buckets of event time.")] = 14,
    as_json: Annotated[
        bool, typer.Option("--json", help="Every column, a JSON object for each row.")
    ] = False,
) -> None:
    """Show how far what each version served is from what it was trained on. It needs no label."""
    pipeline = find_pipeline(module)
    settings = connected_settings(module, needs=("kafka",))
    rows = asyncio.run(_read(settings, pipeline))
    starts = sorted({row.start for row in rows})[-last:]
    chosen = [row for row in rows if row.start in starts]
    if as_json:
        for row in chosen:
            out.print_json(json.dumps(row.as_dict()), indent=None)
        return
    if not rows:
        out.print(
            f"nothing that {pipeline.name} served has been counted yet - see that "
            f"`driftloop evaluate {module}` runs"
        )
        return
    out.print(_table(f"Drift of {pipeline.name}", chosen))
    if any(row.unjudged == "no reference" for row in chosen):
        out.print(
            "a version has no reference to drift from if it is an ONNX file of the pipeline's own, "
            "was trained by an older Driftloop, or takes other features"
        )


async def _read(settings: Settings, pipeline: Pipeline) -> list[DriftRow]:
    """Every bucket and version, with what is known of labels."""
    now = await read_state(settings, pipeline)
    live = await read_drift(settings, pipeline)
    rows = live.rows({number: made.reference for number, made in now.versions.items()})
    return list(with_labels(rows, await read_cells(settings, pipeline)))


def _table(title: str, rows: Sequence[DriftRow]) -> Table:
    table = Table(title=plain(title), title_justify="left", box=None, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in ("Drift", "Moved most") else "right")
    for row in rows:
        columns = row.drift.columns if row.drift is not None else []
        named = columns[: _NAMED if row.alarm else 1]
        how = "%Y-%m-%d" if row.span % _DAY == 0 else "%Y-%m-%d %H:%M"
        outside = max((one.outside for one in columns), default=math.nan)
        table.add_row(
            datetime.fromtimestamp(row.start, UTC).strftime(how),
            str(row.version or "fallback"),
            f"{row.events:,}",
            _verdict(row),
            _share(outside),
            _share(row.fallback),
            _labelled(row),
            plain("; ".join(map(_moved, named))),
        )
    return table


def _verdict(row: DriftRow) -> str:
    """An alarm, or how far the largest shift was from one."""
    if row.unjudged:
        return row.unjudged
    assert row.drift is not None
    return "[red]alarm[/]" if row.alarm else f"no, {row.drift.ratio:.2f} of level"


def _moved(one: ColumnDrift) -> str:
    missing = f", {one.missing:.1%} missing" if math.isfinite(one.missing) else ""
    return f"{one.column} {one.before:.3g} -> {one.after:.3g} (PSI {one.psi:.2f}{missing})"


def _labelled(row: DriftRow) -> str:
    """The share that was labelled, and how late."""
    late = "" if math.isnan(row.label_delay) else f" in {row.label_delay / 3600:.1f} h"
    return f"{_share(row.coverage)}{late}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"
