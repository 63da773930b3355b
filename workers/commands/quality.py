"""`models quality`: how good each version is on live labels."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from streams.evaluation.totals import Total, mean_top_precision
from streams.spec import Pipeline
from streams.sums import Cell
from workers.environment import connected_settings, find_pipeline
from workers.evaluation.progressive import read_cells
from workers.terminal import Module, out, plain

_SHOWN = {
    "average_precision": "AP",
    "roc_auc": "AUC",
    "precision": "Prec.",
    "recall": "Recall",
    "calibration_error": "ECE",
    "top_precision": "Top",
}
_SHOWN_OF_RANKINGS = {"ndcg": "nDCG", "mrr": "MRR", "hit_rate": "Hit rate", "chosen": "Chosen"}
_SHOWN_OF_VALUES = {"mae": "MAE", "rmse": "RMSE", "wape": "WAPE", "mean_error": "Mean error"}


def quality(
    module: Module,
    by_bucket: Annotated[
        bool, typer.Option("--by-bucket", help="A row for each bucket of event time.")
    ] = False,
    slice_name: Annotated[str, typer.Option("--slice", help="Of the events of this slice.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Every measure, a JSON object for each row.")
    ] = False,
) -> None:
    """Show how good each version is, by the labels that have matured until now."""
    pipeline = find_pipeline(module)
    cells = asyncio.run(read_cells(connected_settings(module, needs=("kafka",)), pipeline))
    slices = sorted({cell.slice for cell in cells} - {""})
    chosen = [cell for cell in cells if cell.slice == slice_name and cell.events]
    rows = list(_rows(pipeline, chosen, by_bucket))
    if as_json:
        for row in rows:
            out.print_json(json.dumps(row), indent=None)
        return
    if not rows:
        known = f"; slices are {', '.join(slices)}" if slice_name and slices else ""
        out.print(
            f"no event of {pipeline.name} has matured yet{plain(known)} - see that labels come and "
            f"`driftloop evaluate {module}` runs"
        )
        return
    title = f"Live quality of {pipeline.name} {slice_name}".strip()
    if pipeline.predicts.ranks:
        out.print(_ranked(title, rows))
    else:
        out.print(_table(title, rows) if pipeline.predicts.classes else _errors(title, rows))
    if slices and not slice_name:
        out.print(f"slices: {plain(', '.join(slices))} (--slice NAME)")


def _rows(pipeline: Pipeline, cells: Iterable[Cell], by_bucket: bool) -> Iterator[dict[str, Any]]:
    """What is known of each version, and bucket if asked for, by the names of the measures."""
    groups = defaultdict[tuple[int, float], list[Cell]](list)
    for cell in cells:
        groups[cell.version, cell.start if by_bucket else 0.0].append(cell)
    for (version, _), found in sorted(groups.items()):
        yield {
            "version": version,
            "from": min(cell.start for cell in found),
            "to": max(cell.start + cell.span for cell in found),
            "events": sum(cell.events for cell in found),
            **Total.of(found).measures(pipeline.policies.evaluate.costs),
            **mean_top_precision(found, pipeline.policies.evaluate.top),
        }


def _table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    # without lines, ten columns fit a terminal of 80
    table = Table(title=plain(title), title_justify="left", box=None, pad_edge=False)
    costs = {"cost": "Cost"} if any("cost" in row for row in rows) else {}
    shown = {**_SHOWN, **costs}
    for name in ("Version", "From", "Events", "Class 1", *shown.values()):
        table.add_column(name, justify="right")
    for row in rows:
        share = row.get("prevalence")
        table.add_row(
            *_first(row),
            "-" if share is None else f"{share:.2%}",
            *(f"{row[name]:.3f}" if name in row else "-" for name in shown),
        )
    return table


def _errors(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Errors in the label's unit, and the share of labels that are not above each quantile."""
    table = Table(title=plain(title), title_justify="left", box=None, pad_edge=False)
    below = sorted({name for row in rows for name in row if name.startswith("below_")})
    for name in ("Version", "From", "Events", *_SHOWN_OF_VALUES.values()):
        table.add_column(name, justify="right")
    for name in below:
        table.add_column(f"≤ q{name.removeprefix('below_')}", justify="right")
    for row in rows:
        table.add_row(
            *_first(row),
            *(f"{row[name]:.4g}" if name in row else "-" for name in _SHOWN_OF_VALUES),
            *(f"{row[name]:.1%}" if name in row else "-" for name in below),
        )
    return table


def _ranked(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Of the requests of which something was chosen; `Chosen` is their share."""
    table = Table(title=plain(title), title_justify="left", box=None, pad_edge=False)
    for name in ("Version", "From", "Events", *_SHOWN_OF_RANKINGS.values()):
        table.add_column(name, justify="right")
    for row in rows:
        found = (f"{row[name]:.3f}" if name in row else "-" for name in _SHOWN_OF_RANKINGS)
        table.add_row(*_first(row), *found)
    return table


def _first(row: dict[str, Any]) -> tuple[str, str, str]:
    """Version, first day and events."""
    day = datetime.fromtimestamp(row["from"], UTC).strftime("%Y-%m-%d")
    return str(row["version"] or "fallback"), day, f"{row['events']:,}"
