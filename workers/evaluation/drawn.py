"""What the gate computes on the evaluation slice, and on the same resamples of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from streams.spec import Gate
from streams.spec.tasks import ERRORS
from workers.evaluation.case import Case, Mask, scored_rows, supporting
from workers.evaluation.estimates import UNKNOWN, Estimate
from workers.evaluation.metrics import Labels, Metric, Scores, Weights, metric
from workers.evaluation.rankings import rank_metric
from workers.evaluation.resampling import resampled
from workers.evaluation.values import error_metric

_LEAST_BEYOND = 10
"""Resamples beyond the end of a percentile interval, for the end to be known."""


class Drawn:
    """Every statistic on the slice itself, and on the same resamples of it."""

    def __init__(self, policy: Gate, case: Case, slices: Mapping[str, Mask], seed: int) -> None:
        statistics = _statistics(policy, case, slices)
        self._confidence = policy.confidence
        self._lower_is_better = policy.metric in ERRORS
        ones = np.ones((1, len(case.labels)))
        self._points = {name: float(one(ones)[0]) for name, one in statistics.items()}
        classes = case.labels if case.task.classes else np.zeros(len(case.labels), np.float32)
        drawn = resampled(list(statistics.values()), classes, policy.resamples, seed, case.entities)
        self._drawn = dict(zip(statistics, drawn.T, strict=True))

    def difference(self, name: str, other: str | None = None) -> Estimate:
        """A statistic, or how much larger it is than another."""
        if name not in self._points or (other is not None and other not in self._points):
            return UNKNOWN
        minus = 0.0 if other is None else self._points[other]
        drawn = self._drawn[name] - (0.0 if other is None else self._drawn[other])
        return Estimate(self._points[name] - minus, _deviation(drawn))

    def gain(self, name: str, other: str) -> Estimate:
        """How much better one is than another, by the metric."""
        return self.difference(*self._better_first(name, other))

    def _better_first(self, name: str, other: str) -> tuple[str, str]:
        """Both so that the first minus the second is what `name` is better by."""
        return (other, name) if self._lower_is_better else (name, other)

    def upper_end(self, name: str, other: str) -> float:
        """The upper end of a gain's percentile interval; NaN where few draws tell it."""
        first, second = self._better_first(name, other)
        drawn = self._drawn[first] - self._drawn[second]
        if len(drawn) * (1 - self._confidence) / 2 < _LEAST_BEYOND:
            return math.nan
        return float(np.nanquantile(drawn, (1 + self._confidence) / 2))

    def ratio(self, name: str, other: str) -> Estimate | None:
        """The logarithm of a sum over another; half an example is added, as either may be 0."""
        if name not in self._points or other not in self._points:
            return None
        drawn = np.log((self._drawn[name] + 0.5) / (self._drawn[other] + 0.5))
        value = math.log((self._points[name] + 0.5) / (self._points[other] + 0.5))
        return Estimate(value, _deviation(drawn))


def _deviation(drawn: NDArray[np.float64]) -> float:
    """Standard deviation over resamples; those on which the statistic is not defined left out."""
    defined = drawn[np.isfinite(drawn)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else math.nan


def _statistics(policy: Gate, case: Case, slices: Mapping[str, Mask]) -> dict[str, Metric]:
    """What is computed on each resample, by name."""
    candidate, champion, labels = case.candidate, case.champion, case.labels
    assert candidate.scores is not None
    everything = np.ones(len(labels), bool)
    found = {"candidate": _on(policy, case, candidate.scores, everything)}
    for name, other in (("champion", champion), ("anchor", case.anchor)):
        if other.scores is None or (name == "anchor" and other.version == champion.version):
            continue
        rows = scored_rows(case, other)
        if not supporting(case, rows):
            continue
        found[name] = _on(policy, case, other.scores, rows)
        if other.served is not None:
            found[f"candidate beside {name}"] = _on(policy, case, candidate.scores, rows)
    if "champion" in found and champion.scores is not None:
        for name, mask in slices.items():
            rows = mask & scored_rows(case, champion)
            if supporting(case, rows):
                found[f"champion in {name}"] = _on(policy, case, champion.scores, rows)
                found[f"candidate in {name}"] = _on(policy, case, candidate.scores, rows)
    if case.task.numeric:
        return found | _sums_of_value(policy, case)
    return found | _sums(case, compared="champion" in found)


def _sums(case: Case, compared: bool) -> dict[str, Metric]:
    """Alerts of both, the sum of scores and that of labels; nothing without a threshold."""
    ours, theirs = case.candidate, case.champion
    assert ours.scores is not None
    if not case.task.thresholds:
        return {}
    scores = ours.scores.reshape(len(case.labels))
    found = {"mean score": _sum(scores), "prevalence": _sum(case.labels)}
    if compared and theirs.scores is not None:
        rows = scored_rows(case, theirs)
        others = theirs.scores.reshape(len(case.labels))
        found["alerts"] = _sum((scores >= ours.threshold) & rows)
        found["positives"] = _sum((case.labels > 0) & rows)
        found["champion's alerts"] = _sum((others >= theirs.threshold) & rows)
    return found


def _sums_of_value(policy: Gate, case: Case) -> dict[str, Metric]:
    """The best constant's error, and how many labels are above each quantile, and how many not."""
    scores, rows = case.candidate.scores, np.ones(len(case.labels), bool)
    assert scores is not None
    found = dict[str, Metric]()
    if case.constant is not None:
        same = np.broadcast_to(case.constant, (len(rows), case.task.outputs))
        found["constant"] = _on(policy, case, same, rows)
    for place, quantile in enumerate(case.task.quantiles):
        above = case.labels > scores[:, 1 + place]
        found[f"above {quantile}"], found[f"not above {quantile}"] = _sum(above), _sum(~above)
    return found


def _on(policy: Gate, case: Case, scores: Scores, rows: Mask) -> Metric:
    """The metric on some of the examples."""
    name, task, labels = policy.metric, case.task, case.labels

    def of(scores: Scores, labels: Labels) -> Metric:
        if task.classes:
            return metric(name, scores, labels)
        if task.ranks:
            return rank_metric(name, scores, labels, task)
        return error_metric(name, scores, labels, task.quantiles)

    if rows.all():
        return of(scores, labels)
    part = of(scores[rows], labels[rows])
    return lambda weights: part(weights[:, rows])


def _sum(values: NDArray[np.generic]) -> Callable[[Weights], NDArray[np.float64]]:
    column = values.astype(np.float64)
    return lambda weights: weights @ column
