"""What the report shows of predicted numbers: their words, their intervals, their quantiles."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from streams.evaluation.totals import Total
from workers.reports.drawing import CYCLE, FAINT
from workers.reports.page import Picture

Interval = tuple[float, float]
_WORDS = {
    "wape": "WAPE",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "mean_error": "mean error",
    "pinball": "pinball loss",
}
_BELOW = "below_"


def word(name: str) -> str | None:
    """A measure of values in words; None where it is none."""
    if name.startswith(_BELOW):
        return f"share of labels not above quantile {name.removeprefix(_BELOW)}"
    return _WORDS.get(name)


def errs(name: str) -> bool:
    """Whether a measure is an error, and better where it is lower."""
    return name in _WORDS


def is_share(name: str) -> bool:
    """Whether a measure is a share of events."""
    return name.startswith(_BELOW)


def coverages(total: Total) -> list[str]:
    """The measures that say how much each quantile covers."""
    return [f"{_BELOW}{q:g}" for q in total.errors.quantiles] if total.errors else []


def error_interval(total: Total, name: str, value: float, z: float) -> Interval | None:
    """z standard errors of a mean error either way; None where the sums do not tell them.

    The variance of |e| is the mean of e² less the square of the mean of |e|. A WAPE is taken as a
    mean absolute error in units of the mean label, which is held to be known.
    """
    if total.errors is None or not total.events or name not in ("mae", "wape", "mean_error"):
        return None
    events, square = total.events, total.squared_error / total.events
    mean = (total.errors.signed if name == "mean_error" else total.errors.absolute) / events
    wide = z * math.sqrt(max(0.0, square - mean**2) / events)
    if name == "wape":
        wide *= events / total.errors.labels
    return value - wide, value + wide


def quantiles(total: Total, bounds: dict[str, Interval]) -> Picture | None:
    """How many labels are not above each quantile, against how many should be."""
    measures, names = total.measures(), coverages(total)
    if not names:
        return None
    wanted = np.array([float(name.removeprefix(_BELOW)) for name in names])
    found = np.array([measures[name] for name in names])
    ends = np.array([bounds[name] for name in names])

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, ls=":", lw=1)
        away = np.abs(ends - found[:, None]).T
        axes.errorbar(wanted, found, yerr=away, color=CYCLE[0], marker="o", ms=4, ls="none")
        axes.set_xlabel("quantile")
        axes.set_ylabel("share of labels not above it")

    said = ", ".join(f"{one:.1%} of {want:g}" for want, one in zip(wanted, found, strict=True))
    return Picture(
        name="quantiles",
        title="Coverage of the quantiles",
        says=f"The labels that were not above each quantile: {said}. On the dotted line a quantile "
        "covers what it says. Below it, quantiles are too low, above it too high; where that "
        "lasts, retrain. Bars are 95 % intervals.",
        draw=draw,
    )
