"""`models quality`: how good each version is on live labels."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from streams.records import Cell
from streams.spec import Pipeline
from workers.environment import connected_settings, find_pipeline
from workers.evaluation.progressive import Total, read_cells, top_precision
from workers.terminal import Module, out, plain

_COLUMNS = {
    "average_precision": "AP",
    "roc_auc": "AUC",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "brier": "Brier",
    "calibration_error": "ECE",
    "bias": "Score / share",
}


def quality(
    module: Module,
    by_bucket: Annotated[
        bool, typer.Option("--by-bucket", help="A row for each bucket of event time.")
    ] = False,
    slice_name: Annotated[
        str, typer.Option("--slice", help="Only this slice, as the table of slices names it.")
    ] = "",
) -> None:
    """Show how good each version is on live labels, as they have matured until now."""
    pipeline = find_pipeline(module)
    cells = asyncio.run(read_cells(connected_settings(module, needs=("kafka",)), pipeline))
    slices = sorted({cell.slice for cell in cells} - {""})
    chosen = [cell for cell in cells if cell.slice == slice_name and cell.events]
    if not chosen:
        known = f"; slices are {', '.join(slices)}" if slice_name and slices else ""
        out.print(
            f"no event of {pipeline.name} has matured yet{plain(known)} - see that labels come and "
            f"`driftloop evaluate {module}` runs"
        )
        return
    title = f"Live quality of {pipeline.name}" + (f", {slice_name}" if slice_name else "")
    out.print(_table(title, pipeline, chosen, by_bucket))
    if slices and not slice_name:
        out.print(f"slices: {plain(', '.join(slices))} (--slice NAME)")


def _table(title: str, pipeline: Pipeline, cells: Iterable[Cell], by_bucket: bool) -> Table:
    groups = defaultdict[tuple[int, float], list[Cell]](list)
    for cell in cells:
        groups[cell.version, cell.start if by_bucket else 0.0].append(cell)
    top = pipeline.policies.evaluate.top
    table = Table(title=plain(title), title_justify="left")
    looked_at = [f"Top {top}"] if top else []
    for name in ("Version", "From", "To", "Events", "Class 1", *_COLUMNS.values(), *looked_at):
        table.add_column(name, justify="left" if name in ("From", "To") else "right")
    for (version, _), found in sorted(groups.items()):
        measures = Total.of(found).measures()
        events = sum(cell.events for cell in found)
        share = measures.get("prevalence")
        table.add_row(
            str(version) if version else "fallback",
            _time(min(cell.start for cell in found)),
            _time(max(cell.start + cell.span for cell in found)),
            f"{events:,}",
            "-" if share is None else f"{share:.2%}",
            *(f"{measures[name]:.3f}" if name in measures else "-" for name in _COLUMNS),
            *([_top(found, top)] if top else []),
        )
    return table


def _top(cells: Iterable[Cell], top: int) -> str:
    """The mean over buckets."""
    buckets = defaultdict[float, list[Cell]](list)
    for cell in cells:
        buckets[cell.start].append(cell)
    found = [top_precision(one, top) for one in buckets.values()]
    defined = [one for one in found if np.isfinite(one)]
    return f"{np.mean(defined):.3f}" if defined else "-"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
