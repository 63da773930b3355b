"""Tables of a report: versions, classes and slices, with 95 % intervals of what they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from streams.evaluation.totals import Total, mean_top_precision
from streams.spec import Pipeline
from streams.sums import Cell
from workers.reports.of_values import errs, is_share
from workers.reports.page import Rows
from workers.reports.series import by_version, interval, of_slice, support

_Measured = tuple[Total, Mapping[str, float]]
"""Cells that were added up, and their measures."""
_COLUMNS = {
    "average_precision": "AP",
    "roc_auc": "AUC",
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "calibration_error": "Calibration error",
    "top_precision": "Precision of the top",
    "cost": "Cost of an event",
    "wape": "WAPE",
    "mae": "MAE",
    "rmse": "RMSE",
    "mean_error": "Mean error",
    "pinball": "Pinball loss",
    "ndcg": "nDCG",
    "mrr": "MRR",
    "hit_rate": "Hit rate",
    "chosen": "Chosen",
}
_VERSIONS = 40
_PLAIN = ("calibration_error", "top_precision", "cost", "rmse", "pinball")
"""Measures that are shown without an interval."""


def versions(pipeline: Pipeline, cells: Sequence[Cell], champion: int) -> Rows:
    """A row for each version that served, the newest first."""
    evaluate, rows = pipeline.policies.evaluate, dict[tuple[str, ...], _Measured]()
    served = by_version(of_slice(cells))
    for version, found in sorted(served.items(), reverse=True)[:_VERSIONS]:
        total = Total.of(found)
        name = f"{version or 'fallback'}{' (champion)' if version == champion else ''}"
        first, after = min(c.start for c in found), max(c.start + c.span for c in found)
        measures = total.measures(evaluate.costs) | mean_top_precision(found, evaluate.top)
        rows[name, day(first), day(after), f"{total.events:,}"] = (total, measures)
    said = "Intervals of 95 % are in brackets."
    if any("top_precision" in measures for _, measures in rows.values()):
        said += f" The top are the {evaluate.top} keys of a bucket with the highest scores."
    if len(served) > len(rows):
        said += f" {len(served) - len(rows)} older ones: `driftloop models quality`."
    return _rows("Versions", said, ("Version", "From", "To", "Events"), rows)


def classes(pipeline: Pipeline, total: Total) -> Rows | None:
    """A row for each class, where there are more than two."""
    names = pipeline.decision.classes
    if len(names) < 3 or len(total.confusion) != len(names):
        return None
    rows = []
    for one, name in enumerate(names):
        hits, decided = total.confusion[one, one], total.confusion[:, one].sum()
        labelled, ranking = total.confusion[one].sum(), total.rankings.get(one)
        rows.append(
            (
                name,
                f"{labelled:,}",
                _share(hits, decided),
                _share(hits, labelled),
                _number(ranking.average_precision() if ranking and ranking.mixed else None),
                _number(ranking.roc_auc() if ranking and ranking.mixed else None),
            )
        )
    head = ("Class", "Events", "Precision", "Recall", "AP", "AUC")
    said = "Each class against the rest; a class without events has no mean to spoil."
    return Rows("Classes", said, head, rows)


def slices(pipeline: Pipeline, cells: Sequence[Cell], version: int) -> Rows | None:
    """A row for each declared slice that has events of this version."""
    name = pipeline.policies.gate.metric
    mine = [cell for cell in cells if cell.version == version]
    names = sorted({cell.slice for cell in mine if cell.events} - {""})
    if not names:
        return None
    every = Total.of(of_slice(mine)).measures()
    rows, low = dict[tuple[str, ...], _Measured](), list[str]()
    errors, of_classes = pipeline.predicts.numeric, pipeline.predicts.classes > 0
    for one in names:
        total = Total.of(of_slice(mine, one))
        measures = total.measures(pipeline.policies.evaluate.costs)
        share = () if not of_classes else (_percent(measures.get("prevalence")),)
        rows[(one, f"{total.events:,}", *share)] = (total, measures)
        if name in measures and _is_worse(interval(total, name, measures[name]), every[name], name):
            low.append(one)
    worse = "above" if errors else "below"
    said = "Intervals of 95 % are in brackets. " + (
        f"Proven {worse} all events together, by {_COLUMNS[name]}: {', '.join(low)}. Where that is "
        "more than rarity explains, the model lacks a feature there."
        if low
        else f"None is proven {worse} all events together, by {_COLUMNS[name]}."
    )
    return _rows("", said, ("Slice", "Events", *(("Class 1",) if of_classes else ())), rows)


def _is_worse(ends: tuple[float, float], every: float, name: str) -> bool:
    """Whether an interval lies wholly on the wrong side of what all events have."""
    low, high = ends
    return low > every if errs(name) else high < every


def _rows(
    title: str,
    said: str,
    head: tuple[str, ...],
    rows: Mapping[tuple[str, ...], _Measured],
) -> Rows:
    """Rows by their first columns, with a column for each measure that any of them has."""
    known = {name: None for _, measures in rows.values() for name in measures}
    names = [name for name in _COLUMNS if name in known]
    names += [name for name in known if is_share(name)]
    found = [
        (*first, *(_measure(total, measures, name) for name in names))
        for first, (total, measures) in rows.items()
    ]
    heads = (_COLUMNS.get(name) or f"≤ q{name.removeprefix('below_')}" for name in names)
    return Rows(title, said, (*head, *heads), found)


def _measure(total: Total, measures: Mapping[str, float], name: str) -> str:
    if name not in measures or not support(total, name):
        return "-"
    value, digits = measures[name], ".4g" if errs(name) else ".3f"
    if name in _PLAIN:
        return f"{value:{digits}}"
    low, high = interval(total, name, value)
    return f"{value:{digits}} [{low:{digits}}, {high:{digits}}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _share(part: np.int64, of: np.int64) -> str:
    return f"{part / of:.3f}" if of else "-"


def day(at: float) -> str:
    """A date, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M").removesuffix(" 00:00")
