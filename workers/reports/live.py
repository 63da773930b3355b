"""The report of a pipeline, from what Kafka holds: live quality, shadow, ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streams.evaluation.totals import Total
from streams.ledger.state import LedgerState, state_after
from streams.records import LedgerEntry, Shadowed
from streams.spec import Pipeline
from streams.sums import Cell
from workers.costs.statement import Statement
from workers.evaluation.live_drift import DriftRow
from workers.reports import (
    challenger,
    drifting,
    ledger,
    of_values,
    of_version,
    over_time,
    tables,
)
from workers.reports.costs import costs
from workers.reports.page import Page, Picture, Section
from workers.reports.series import interval, of_slice, points

_MEASURES = ("average_precision", "roc_auc", "accuracy", "precision", "recall")


@dataclass(frozen=True)
class Known:
    """What is known of a pipeline."""

    pipeline: Pipeline
    cells: Sequence[Cell]
    """Every cell of `P.metrics`."""
    entries: Sequence[LedgerEntry]
    """The ledger, oldest first."""
    shadowed: Sequence[Shadowed] | None = ()
    """All of `P.shadow`; None where it is too long."""
    drift: Sequence[DriftRow] = ()
    """What was served, beside what its versions were trained on."""
    spent: Statement | None = None
    """What `P.costs` says; None where nobody asked it."""


def live_report(known: Known) -> Page:
    """The report; sections that have nothing to show say what they wait for, or are left out."""
    pipeline, state = known.pipeline, state_after(known.entries)
    champion = state.champion
    cells = of_slice(known.cells)
    serves = f"version {champion} serves" if champion else "no version serves, the fallback answers"
    events = sum(cell.events for cell in cells)
    if not cells:
        said = (
            "No event has matured yet: an event counts when its label's horizon of "
            f"{pipeline.feedback.horizon} has passed. See that labels come and that "
            "`driftloop evaluate` runs."
        )
        quality = [Section("Live quality", said)]
    else:
        end = max(cell.start + cell.span for cell in cells)
        said = f"{events:,} events up to {tables.day(end)} have matured."
        quality = _quality(known, cells, champion)
    return Page(
        title=f"{pipeline.name}: live quality and roll-outs",
        says=f"{said if cells else ''} In the ledger {serves}. All times are UTC.".strip(),
        sections=[
            *quality,
            *_drift(known),
            *_challenger(known, state),
            *_ledger(known.entries),
            *_costs(known),
        ],
    )


def _quality(known: Known, cells: Sequence[Cell], champion: int) -> list[Section]:
    pipeline = known.pipeline
    steps = points(cells)
    marks = ledger.marks(known.entries, steps)
    version = _shown(cells, champion)
    total = Total.of(cell for cell in cells if cell.version == version)
    measures, of_classes = _measures(pipeline, total), pipeline.predicts.classes > 0
    found = [
        Section(
            "Quality over time",
            "Dotted lines are promotions and steps of a roll-out, dashed ones roll-backs.",
            _drawn([over_time.quality(steps, marks, name, version) for name in measures]),
            [tables.versions(pipeline, cells, champion)],
        ),
        Section(
            "The fallback" if not version else f"Version {version}",
            f"All {total.events:,} of its events that have matured.",
            _drawn(_of_version(pipeline, total)),
            [table for table in [tables.classes(pipeline, total)] if table],
        ),
        Section(
            "Alerts and labels" if of_classes else "Labels",
            "",
            _drawn(
                [
                    over_time.alerts(steps, pipeline.decision.classes) if of_classes else None,
                    over_time.coverage(steps, _missing(pipeline)),
                    over_time.delay(steps),
                ]
            ),
        ),
    ]
    by_slice = tables.slices(pipeline, known.cells, version)
    return [*found, *([Section("Slices", "", (), [by_slice])] if by_slice else [])]


def _measures(pipeline: Pipeline, total: Total) -> list[str]:
    """What is shown over time, the gate's metric first."""
    first, task = pipeline.policies.gate.metric, pipeline.predicts
    if task.ranks:
        others = ["ndcg", "mrr", "hit_rate"]
    elif not task.classes:
        others = ["wape", "mae", *of_values.coverages(total)]
    else:  # of two classes accuracy says little that precision and recall do not
        others = [name for name in _MEASURES if name != "accuracy" or task.classes > 2]
    return [first, *(name for name in others if name != first)]


def _of_version(pipeline: Pipeline, total: Total) -> list[Picture | None]:
    """What is shown of one version."""
    classes = pipeline.decision.classes
    if pipeline.predicts.ranks:
        return []
    if not pipeline.predicts.classes:
        measures, names = total.measures(), of_values.coverages(total)
        return [of_values.quantiles(total, {n: interval(total, n, measures[n]) for n in names})]
    return [
        of_version.calibration(total, classes),
        of_version.precision_recall(total, classes),
        of_version.roc(total, classes),
        of_version.confusion(total, classes),
        of_version.scores(total, classes),
    ]


def _drift(known: Known) -> list[Section]:
    section = drifting.section(known.drift)
    return [section] if section else []


def _challenger(known: Known, state: LedgerState) -> list[Section]:
    """Where a version is on its way: what is known of it beside the one it is compared with."""
    if not state.compared:
        return []
    if known.shadowed is None:
        said = "`P.shadow` is too long to be read here; the evidence of each step is below."
        return [Section(f"Version {state.challenger}: {state.stage}", said)]
    return [challenger.comparison(known.pipeline, state, known.shadowed)]


def _ledger(entries: Sequence[LedgerEntry]) -> list[Section]:
    if not entries:
        return [
            Section(
                "Gate and roll-outs",
                "The ledger is empty: the trainer makes a candidate when labels have matured, or "
                "`driftloop train` does.",
            )
        ]
    verdicts = ledger.verdicts(entries)
    said = (
        "A rule that failed rejects the candidate, one that is open leaves it inconclusive; only "
        "where all pass it goes on. An open one is evidence for the next candidate."
    )
    gate = [Section("Gate: the last candidates", said, (), verdicts)] if verdicts else []
    return [*gate, Section("History of roll-outs", "", (), [ledger.history(entries)])]


def _costs(known: Known) -> list[Section]:
    return [costs(known.spent)] if known.spent is not None and known.spent.usages else []


def _shown(cells: Sequence[Cell], champion: int) -> int:
    """The champion if any of its events has matured, else the version that served last."""
    served = {cell.version for cell in cells}
    if champion in served:
        return champion
    return max(cells, key=lambda cell: (cell.start, cell.events)).version


def _missing(pipeline: Pipeline) -> str:
    label = pipeline.feedback.missing
    if label is None:
        return "are not counted here"
    names = pipeline.feedback.classes
    return f"count as {names[int(label)] if names else label}"


def _drawn(pictures: Sequence[Picture | None]) -> list[Picture]:
    return [picture for picture in pictures if picture is not None]
