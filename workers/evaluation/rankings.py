"""Orders of candidates against what was chosen: metrics, and what a random order reaches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.evaluation.ranks import count_ranks, random_ranks, rank_measures, ranks
from streams.spec.tasks import Task
from streams.sums import RankSums
from workers.evaluation.metrics import Labels, Metric, Scores, Weights


def rank_metric(name: str, scores: Scores, labels: Labels, task: Task) -> Metric:
    """The mean over requests of which something was chosen, as a function of counts."""
    found = getattr(ranks(scores, labels, task.top), name)
    known = np.isfinite(found).astype(np.float64)
    values = np.nan_to_num(found)

    def mean(weights: Weights) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights @ values) / (weights @ known))

    return mean


def rank_chance(name: str, labels: Labels, task: Task) -> float:
    """What is expected of a random order of the same candidates."""
    return float(np.nanmean(getattr(random_ranks(labels, task.top), name)))


def rank_point(name: str, scores: Scores, labels: Labels, top: int) -> float:
    """The mean of scores and labels [n, most]; NaN where nothing was chosen."""
    found = getattr(ranks(scores, labels, top), name)
    return float(found[np.isfinite(found)].mean()) if np.isfinite(found).any() else float("nan")


def ranked_measures(task: Task, scores: Scores, labels: Labels) -> dict[str, float]:
    """Metrics of scores [n, most] by name."""
    sums = RankSums()
    count_ranks(sums, ranks(scores, labels, task.top), np.ones(len(labels), np.int64))
    return rank_measures(sums, max(1, len(labels)))
