"""Predicted numbers against their labels: metrics, losses, and what one is to be better than.

Scores are [n, 1 + quantiles], the point first. What `mae`, `wape` and the others are is said in
`streams.evaluation.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.evaluation.errors import count_errors, error_measures, pinball
from streams.spec.tasks import Task
from streams.sums import ErrorSums
from workers.evaluation.metrics import Labels, Metric, Scores, measures
from workers.evaluation.rankings import ranked_measures

LOSS_BOUND = "loss_bound"
"""In a manifest's metrics: what 99 % of the version's losses were below on its validation slice."""
_BOUND = 0.99

Floats = NDArray[np.float64]


def error_metric(name: str, scores: Scores, labels: Labels, quantiles: Sequence[float]) -> Metric:
    """An error as a function of counts; lower is better."""
    wanted = labels.astype(np.float64)
    errors = scores[:, 0] - wanted
    if name == "pinball":
        return _mean(pinball(wanted[:, None] - scores[:, 1:], quantiles).mean(axis=1))
    if name == "rmse":
        squares = _mean(errors**2)
        return lambda weights: np.sqrt(squares(weights))
    away, sizes = np.abs(errors), np.abs(wanted)
    if name == "mae":
        return _mean(away)
    if name != "wape":
        raise ValueError(f"no metric {name!r}")

    def wape(weights: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = (weights @ away) / (weights @ sizes)
        return found

    return wape


def _mean(values: Floats) -> Metric:
    return lambda weights: weights @ values / weights.sum(axis=1)


def constant(name: str, labels: Labels, quantiles: Sequence[float]) -> NDArray[np.float32]:
    """The scores [1 + quantiles] that do best on labels [n] among those that are always the same.

    By the metric of this name: the mean has the least squared error, the median the least absolute.
    """
    best = np.mean if name == "rmse" else np.median
    return np.array([best(labels), *np.quantile(labels, quantiles)], np.float32)


def losses(scores: Scores, labels: Labels, quantiles: Sequence[float]) -> Floats:
    """Of each example the mean of the point's absolute error and the quantiles' pinball losses."""
    wanted = labels.astype(np.float64)
    found = np.abs(scores[:, 0] - wanted) + pinball(wanted[:, None] - scores[:, 1:], quantiles).sum(
        axis=1
    )
    return np.asarray(found / scores.shape[1], np.float64)


@dataclass(frozen=True)
class BoundedLosses:
    """Losses as shares of a bound, so that they are in [0, 1]: a larger one counts as the bound.

    A confidence sequence is of bounded differences. What it then says is about the clipped loss: a
    few errors beyond all others decide nothing.
    """

    bound: float
    """In the label's unit, above 0."""
    quantiles: tuple[float, ...]

    unit = 1.0
    """What to divide a mean difference by; nothing is weighted here."""

    def losses(self, scores: Scores, labels: Labels) -> Floats:
        """Of scores [n, 1 + quantiles] and labels [n], [n]."""
        return np.minimum(losses(scores, labels, self.quantiles) / self.bound, 1.0)


def loss_bound(task: Task, scores: Scores, labels: Labels) -> dict[str, float]:
    """What a manifest keeps, so that a roll-out can tell what loss is large; of numbers alone."""
    if not task.numeric:
        return {}
    return {LOSS_BOUND: float(np.quantile(losses(scores, labels, task.quantiles), _BOUND))}


def measured(task: Task, scores: Scores, labels: Labels) -> dict[str, float]:
    """Metrics of scores [n, outputs] by name; those that are not defined are left out."""
    if task.classes:
        return measures(scores, labels)
    if task.ranks:
        return ranked_measures(task, scores, labels)
    sums, ones, wanted = ErrorSums(), np.ones(len(labels), np.int64), labels.astype(np.float64)
    said = scores.astype(np.float64)
    count_errors(sums, said, wanted, ones, task.quantiles)
    found = error_measures(sums, float(np.square(said[:, 0] - wanted).sum()), len(labels))
    return {name: value for name, value in found.items() if np.isfinite(value)}
