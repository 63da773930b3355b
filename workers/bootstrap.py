"""Ranking metrics under example weights, for many bootstrap resamples at once.

A resample is a row of counts: how often each example was drawn. Scores are sorted once; what is
left per resample is two cumulative sums.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
"""[n] of the positive class, or [n, outputs]."""
Labels = NDArray[np.float32]
"""[n] class indices."""
Weights = NDArray[np.float64]
"""[resamples, n] counts."""
_CHUNK = 2_000_000
"""Counts in memory at once."""


class _Ranking:
    """Examples by falling score; equal scores are one step, as they cannot be told apart."""

    def __init__(self, scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> None:
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


def paired(
    metrics: tuple[Metric, Metric], labels: Labels, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Both metrics on the same resamples, [resamples, 2].

    Each class is resampled by itself (stratified), so that no resample is without positives.
    """
    random = np.random.default_rng(seed)
    strata = [np.flatnonzero(labels == one) for one in np.unique(labels)]
    found = []
    chunk = max(1, _CHUNK // max(1, len(labels)))
    for first in range(0, resamples, chunk):
        counts = _counts(random, strata, min(chunk, resamples - first), len(labels))
        found.append(np.stack([one(counts) for one in metrics], axis=1))
    return np.concatenate(found)


def _counts(
    random: np.random.Generator, strata: list[NDArray[np.int64]], rows: int, n: int
) -> Weights:
    counts = np.zeros((rows, n))
    for members in strata:
        drawn = random.integers(0, len(members), (rows, len(members)))
        drawn += np.arange(rows)[:, None] * len(members)
        flat = np.bincount(drawn.ravel(), minlength=rows * len(members))
        counts[:, members] = flat.reshape(rows, -1)
    return counts
