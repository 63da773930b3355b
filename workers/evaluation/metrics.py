"""Metrics of scores against labels, each written once.

Ranking metrics take example weights, for many bootstrap resamples at once. A resample is a row of
counts: how often each example was drawn. Scores are sorted once; what is left per resample is two
cumulative sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
"""[n] of the positive class, or [n, outputs]."""
Labels = NDArray[np.float32]
"""[n] class indices."""
Weights = NDArray[np.float64]
"""[resamples, n] counts."""


class _Ranking:
    """Examples by falling score; equal scores are one step, as they cannot be told apart."""

    def __init__(self, scores: Scores, positive: NDArray[np.bool_]) -> None:
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        self.order = order
        self.positive = positive[order].astype(np.float64)
        self.ends = np.append(np.flatnonzero(ranked[:-1] != ranked[1:]), len(ranked) - 1)

    def totals(self, weights: Weights) -> tuple[Weights, Weights]:
        """Positives, and all examples, at or above each step: [resamples, steps] each."""
        ranked = weights[:, self.order]
        everything = np.cumsum(ranked, axis=1)[:, self.ends]
        ranked *= self.positive
        return np.cumsum(ranked, axis=1)[:, self.ends], everything

    def average_precision(self, weights: Weights) -> NDArray[np.float64]:
        """Sum of precision times the step in recall, [resamples]; NaN without positives."""
        hits, everything = self.totals(weights)
        steps = np.diff(hits, axis=1, prepend=0.0)
        with np.errstate(invalid="ignore"):
            precision = hits / np.maximum(everything, 1e-300)
            found: NDArray[np.float64] = (steps * precision).sum(axis=1) / hits[:, -1]
        return found

    def roc_auc(self, weights: Weights) -> NDArray[np.float64]:
        """Chance that a positive scores above a negative, ties half; NaN without either."""
        hits, everything = self.totals(weights)
        misses = everything - hits
        heights = (hits + np.pad(hits, ((0, 0), (1, 0)))[:, :-1]) / 2
        with np.errstate(invalid="ignore"):
            area = (np.diff(misses, axis=1, prepend=0.0) * heights).sum(axis=1)
            found: NDArray[np.float64] = area / (hits[:, -1] * misses[:, -1])
        return found


Metric = Callable[[Weights], NDArray[np.float64]]
"""Counts [resamples, n] -> the metric [resamples]."""


def metric(name: str, scores: Scores, labels: Labels) -> Metric:
    """A metric of these scores as a function of counts.

    `average_precision` and `roc_auc` of several classes are the mean over the classes present,
    each against the rest; `accuracy` of one score decides at 0.5.
    """
    scores = scores.reshape(len(labels), -1)
    if name == "accuracy":
        decided = scores.argmax(axis=1) if scores.shape[1] > 1 else scores[:, 0] >= 0.5
        right = (decided == labels).astype(np.float64)
        return lambda weights: weights @ right / weights.sum(axis=1)
    if name not in ("average_precision", "roc_auc"):
        raise ValueError(f"no metric {name!r}")
    classes = range(scores.shape[1]) if scores.shape[1] > 1 else [1]
    rankings = [
        _Ranking(scores[:, one if len(classes) > 1 else 0], labels == one)
        for one in classes
        if (labels == one).any()
    ]
    return lambda weights: np.mean([getattr(one, name)(weights) for one in rankings], axis=0)


def point(name: str, scores: Scores, labels: Labels) -> float:
    """The metric with every example once; NaN where it is not defined (one class only)."""
    if not len(labels) or (name != "accuracy" and len(np.unique(labels)) < 2):
        return float("nan")
    return float(metric(name, scores, labels)(np.ones((1, len(labels))))[0])


def measures(scores: Scores, labels: Labels) -> dict[str, float]:
    """Metrics of scores [n, outputs]; those that are not defined are left out.

    Brier's score is the mean squared error of the probability; calibration error is the mean
    difference of score and frequency over ten bins of equal size (ECE, Naeini et al., 2015).
    """
    found = {"accuracy": point("accuracy", scores, labels)}
    for name in ("average_precision", "roc_auc"):
        found[name] = point(name, scores, labels)
    if scores.shape[1] == 1 and len(labels):
        found["brier"] = float(np.mean((scores[:, 0] - labels) ** 2))
        found["calibration_error"] = calibration_error(scores, labels)
    return {name: round(value, 6) for name, value in found.items() if np.isfinite(value)}


def calibration_error(scores: Scores, labels: Labels, bins: int = 10) -> float:
    """Mean |mean score - frequency of positives| over bins of equal size, by falling score."""
    order = np.argsort(scores[:, 0], kind="stable")
    gaps = [
        abs(float(scores[rows, 0].mean()) - float(labels[rows].mean())) * len(rows)
        for rows in np.array_split(order, bins)
        if len(rows)
    ]
    return sum(gaps) / len(labels)
