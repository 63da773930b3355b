"""Errors of predicted numbers: counted into cells, and told of sums of cells. Pure.

The names and their meaning: `mae` is the mean absolute error of the point, `rmse` the root of its
mean squared error, `wape` the absolute errors' sum over that of the labels' sizes, `mean_error` how
far points are above labels in the mean. Of a quantile q, `below_q` is the share of labels that are
not above it, its coverage, which should be q; `pinball_q` the mean of its pinball loss
q max(e, 0) + (1 - q) max(-e, 0), with e = label - quantile (Koenker and Bassett, "Regression
quantiles", Econometrica 46, 1978); `pinball` is the mean of these over the quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.sums import ErrorSums, QuantileSums

Floats = NDArray[np.float64]


def pinball(errors: Floats, quantiles: Sequence[float]) -> Floats:
    """The loss [n, quantiles] of errors label - quantile [n, quantiles]."""
    levels = np.array(quantiles, np.float64)
    found: Floats = np.maximum(levels * errors, (levels - 1.0) * errors)
    return found


def count_errors(
    sums: ErrorSums,
    scores: Floats,
    labels: Floats,
    weights: NDArray[np.int64],
    quantiles: Sequence[float],
) -> None:
    """Add scores [n, 1 + quantiles] of labels [n], each so many times."""
    errors = scores[:, 0] - labels
    sums.absolute += float(np.abs(errors) @ weights)
    sums.signed += float(errors @ weights)
    sums.labels += float(np.abs(labels) @ weights)
    beyond = labels[:, None] - scores[:, 1:]
    losses = pinball(beyond, quantiles).T @ weights
    covered = (beyond <= 0).T.astype(np.int64) @ weights
    for place, quantile in enumerate(quantiles):
        one = sums.quantiles.setdefault(quantile, QuantileSums())
        one.events += int(weights.sum())
        one.covered += int(covered[place])
        one.pinball += float(losses[place])


def together(one: ErrorSums, other: ErrorSums) -> ErrorSums:
    """Both."""
    names = one.quantiles.keys() | other.quantiles.keys()
    nothing = QuantileSums()
    pairs = {q: (one.quantiles.get(q, nothing), other.quantiles.get(q, nothing)) for q in names}
    return ErrorSums(
        one.absolute + other.absolute,
        one.signed + other.signed,
        one.labels + other.labels,
        {
            q: QuantileSums(a.events + b.events, a.covered + b.covered, a.pinball + b.pinball)
            for q, (a, b) in sorted(pairs.items())
        },
    )


def error_measures(sums: ErrorSums, squared_error: float, events: int) -> dict[str, float]:
    """What sums over so many events come to, by name; NaN where it is not defined."""
    each = {q: one for q, one in sums.quantiles.items() if one.events}
    losses = {f"pinball_{q:g}": one.pinball / one.events for q, one in each.items()}
    return {
        "mae": sums.absolute / events,
        "rmse": math.sqrt(max(0.0, squared_error) / events),
        "wape": sums.absolute / sums.labels if sums.labels > 0 else math.nan,
        "mean_error": sums.signed / events,
        "pinball": sum(losses.values()) / len(losses) if losses else math.nan,
        **{f"below_{q:g}": one.covered / one.events for q, one in each.items()},
        **losses,
    }
