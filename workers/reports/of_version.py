"""Pictures of one version's matured events: calibration, curves, confusion, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from streams.evaluation.totals import Ranking, Total
from workers.reports.drawing import CYCLE, FAINT, INK, legend
from workers.reports.page import Picture
from workers.reports.series import curves, reliability

_MOST_CLASSES = len(CYCLE)
_MOST_NUMBERS = 6
"""A confusion of more classes than this has no room for its numbers."""
_ODDS = {0.0001: "0.01 %", 0.001: "0.1 %", 0.01: "1 %", 0.1: "10 %", 0.5: "50 %", 0.9: "90 %"}
"""Probabilities that stand at the axis of the log-odds."""


def calibration(total: Total, classes: Sequence[str]) -> Picture | None:
    """Frequency against score, by tenths of the score."""
    shown = _shown(total, classes)
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, ls=":", lw=1)
        for number, (name, ranking) in enumerate(shown.items()):
            found = reliability(ranking)
            ends = np.abs(np.stack([found.low, found.high]) - found.share)
            axes.errorbar(
                found.score,
                found.share,
                yerr=ends,
                color=CYCLE[number],
                marker="o",
                ms=4,
                elinewidth=1,
                label=name,
            )
        _finish(axes, "mean score", "share of the class", named=len(shown) > 1)

    measures = total.measures()
    said = (
        f"The mean score is {measures['bias']:.2f} times the share of {classes[1]}, and scores "
        f"are off by {measures['calibration_error']:.3f} in the mean. "
        if "bias" in measures
        else ""
    )
    return Picture(
        name="calibration",
        title="Calibration",
        says=f"{said}On the dotted line a score of 30 % means 30 %; above it scores are too low, "
        "below it too high. Far from it, do not read scores as probabilities, and retrain. Bars "
        "are 95 % intervals.",
        draw=draw,
    )


def precision_recall(total: Total, classes: Sequence[str]) -> Picture | None:
    """Precision against recall over all thresholds, with the decisions that were served."""
    shown = _shown(total, classes)
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        for number, (name, ranking) in enumerate(shown.items()):
            found = curves(ranking)
            axes.plot(found.recall, found.precision, color=CYCLE[number], label=name)
            hits, decided, labelled = _served(total, classes.index(name))
            if decided and labelled:
                axes.plot(hits / labelled, hits / decided, "o", ms=6, color=CYCLE[number])
        axes.set_ylim(0, 1.02)
        _finish(axes, "recall", "precision", named=len(shown) > 1)

    measures = total.measures()
    return Picture(
        name="precision-recall",
        title="Precision and recall",
        says=f"The dot is what was served: precision {measures['precision']:.3f}, recall "
        f"{measures['recall']:.3f}. The line is every other threshold that this version could "
        "have had: where a better trade lies on it, set `Decision(threshold=...)`.",
        draw=draw,
    )


def roc(total: Total, classes: Sequence[str]) -> Picture | None:
    """Share of positives found against false alarms over all thresholds."""
    shown = _shown(total, classes)
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, ls=":", lw=1)
        for number, (name, ranking) in enumerate(shown.items()):
            found = curves(ranking)
            axes.plot(
                np.append(0.0, found.false_alarms),
                np.append(0.0, found.recall),
                color=CYCLE[number],
                label=name,
            )
        _finish(axes, "false alarms", "recall", named=len(shown) > 1)

    return Picture(
        name="roc",
        title="ROC",
        says=f"The area below is the AUC, {total.measures()['roc_auc']:.3f}: how often an event "
        "of the class scores above another. On the dotted line a version knows nothing, and must "
        "not serve.",
        draw=draw,
    )


def confusion(total: Total, classes: Sequence[str]) -> Picture | None:
    """How many events of each label were decided for which class."""
    if len(total.confusion) != len(classes):
        return None
    counts = total.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes) -> None:
        shades = LinearSegmentedColormap.from_list("shades", [f"{CYCLE[0]}00", f"{CYCLE[0]}aa"])
        axes.grid(visible=False)
        axes.pcolormesh(shares, cmap=shades, vmin=0, vmax=1, edgecolors="none")
        if len(classes) <= _MOST_NUMBERS:
            for (label, decided), count in np.ndenumerate(counts):
                text = f"{count:,}\n{shares[label, decided]:.1%}"
                axes.text(decided + 0.5, label + 0.5, text, ha="center", va="center", color=INK)
            places = np.arange(len(classes)) + 0.5
            axes.set_xticks(places, list(classes))
            axes.set_yticks(places, list(classes), rotation=90, va="center")
        axes.invert_yaxis()
        _finish(axes, "decided", "labelled", named=False)

    wrong = int(counts.sum() - np.trace(counts))
    return Picture(
        name="confusion",
        title="Decisions that were served",
        says=f"{wrong:,} of {total.events:,} decisions were wrong. A row is a label, its shares "
        "add up to 100 %. Where one kind of mistake costs more than the other, declare it, as "
        "`Evaluate(costs=((0, 1), (50, 0)))`, and follow the cost.",
        draw=draw,
    )


def scores(total: Total, classes: Sequence[str]) -> Picture | None:
    """How the scores of each class are distributed, by log-odds."""
    shown = _shown(total, classes)
    if not shown:
        return None
    edges = np.linspace(-10, 6, 49)

    def draw(axes: Axes) -> None:
        for number, (name, ranking) in enumerate(shown.items()):
            odds = ranking.scores.clip(edges[0], edges[-1])
            if len(shown) == 1:
                others = np.histogram(odds, edges, weights=ranking.others / ranking.others.sum())
                axes.stairs(*others, color=FAINT, fill=True, alpha=0.4, label=classes[0])
            found = np.histogram(odds, edges, weights=ranking.positives / ranking.positives.sum())
            axes.stairs(*found, color=CYCLE[number], lw=1.6, label=name)
        axes.set_xticks([float(np.log(p / (1 - p))) for p in _ODDS], list(_ODDS.values()))
        _finish(axes, "score", "share of the class", named=True)

    return Picture(
        name="scores",
        title="Scores by class",
        says="The further the classes lie apart, the better they are told apart. What lies at one "
        "score for both, no threshold separates: that takes other features.",
        draw=draw,
    )


def _shown(total: Total, classes: Sequence[str]) -> Mapping[str, Ranking]:
    """Classes that can be ranked, the most frequent ones of many."""
    mixed = {
        classes[one]: ranking
        for one, ranking in total.rankings.items()
        if ranking.mixed and one < len(classes)
    }
    most = sorted(mixed, key=lambda name: -int(mixed[name].positives.sum()))[:_MOST_CLASSES]
    return {name: mixed[name] for name in mixed if name in most}


def _served(total: Total, one: int) -> tuple[int, int, int]:
    """Of a class: events rightly decided for it, decided for it, and labelled as it."""
    counts = total.confusion
    return int(counts[one, one]), int(counts[:, one].sum()), int(counts[one].sum())


def _finish(axes: Axes, x: str, y: str, named: bool) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if named:
        legend(axes)
