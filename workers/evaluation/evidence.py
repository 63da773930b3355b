"""What the gate reads: metrics, gains and ratios with their errors, from scores and labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.spec import Gate
from workers.evaluation.case import Case, Contender, Mask, rarest, scored_rows
from workers.evaluation.estimates import UNKNOWN, Estimate, pooled
from workers.evaluation.history import Gain
from workers.evaluation.metrics import Labels, Metric, Scores, Weights, metric
from workers.evaluation.resampling import resampled

_LEAST_BEYOND = 10
"""Resamples beyond the end of a percentile interval, for the end to be known."""


@dataclass(frozen=True)
class Comparison:
    """The candidate against another version, on the same examples."""

    version: int
    support: int | None = None
    """Of the rarest class, among the examples that both have scores of; None without any."""
    metric: float = math.nan
    """The other version's."""
    gain: Estimate = UNKNOWN
    """Candidate minus the other, on this slice."""
    drawn_high: float = math.nan
    """Upper end of the gain's percentile interval of `Gate.confidence` (Efron & Tibshirani, An
    Introduction to the Bootstrap, 1993, ch. 13): few examples that decide all make it skew.
    NaN where it is not known."""
    pooled: Estimate = UNKNOWN
    """Together with the gains of the candidates before it that were left open."""
    windows: int = 1
    """Evaluation slices in `pooled`."""
    look: int = 1
    """Which candidate this is that is compared with that version."""
    note: str = ""
    """How it was compared, or why not, where not by scoring all anew."""

    @property
    def compared(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.support)


@dataclass(frozen=True)
class SliceGain:
    """The gain over the champion in one slice."""

    support: int
    gain: Estimate


@dataclass(frozen=True)
class Evidence:
    """What the rules read."""

    policy: Gate
    support: int
    """Examples of the rarest class, or entities that have some."""
    validation: int | None
    chance: float
    """What a model without knowledge reaches."""
    candidate: Estimate = UNKNOWN
    champion: Comparison = Comparison(0)
    anchor: Comparison = Comparison(0)
    """The champion's where the champion is the anchor."""
    alerts: Estimate | None = None
    """Logarithm of the candidate's alerts over the champion's; None where not defined."""
    alerts_to_positives: Estimate | None = None
    """Logarithm of the candidate's alerts over the positives, on the same examples."""
    calibration: Estimate | None = None
    """Logarithm of mean score over prevalence; None for several classes."""
    slices: Mapping[str, SliceGain] | None = None


def gather(policy: Gate, case: Case, slices: Mapping[str, Mask], seed: int) -> Evidence:
    """The evidence on a candidate; every error is from one bootstrap, paired throughout.

    Without support there is nothing but its number: metrics may not be defined then.
    """
    support = rarest(case, np.ones(len(case.labels), bool))
    if support < policy.least_support:
        return Evidence(policy, support, case.validation, math.nan)
    assert case.candidate.scores is not None
    drawn = _Drawn(policy, case, slices, seed)
    champion = _compare(case, case.champion, drawn)
    same = case.earlier.anchor == case.champion.version
    anchor = champion if same else _compare(case, case.anchor, drawn)
    return Evidence(
        policy=policy,
        support=support,
        validation=case.validation,
        chance=chance(policy.metric, case.labels),
        candidate=drawn.difference("candidate"),
        champion=champion,
        anchor=anchor,
        alerts=drawn.ratio("alerts", "champion's alerts"),
        alerts_to_positives=drawn.ratio("alerts", "positives"),
        calibration=drawn.ratio("mean score", "prevalence"),
        slices={
            name: SliceGain(
                rarest(case, rows & scored_rows(case, case.champion)),
                drawn.difference(f"candidate in {name}", f"champion in {name}"),
            )
            for name, rows in slices.items()
            if champion.compared
        },
    )


def chance(name: str, labels: Labels) -> float:
    """The metric of scores that know nothing: prevalence, 0.5, or the majority's share.

    Of several classes, the mean prevalence of those present.
    """
    shares = np.bincount(labels.astype(np.int64), minlength=2) / len(labels)
    if name == "roc_auc":
        return 0.5
    if name == "accuracy":
        return float(shares.max())
    return float(shares[1] if len(shares) == 2 else shares[shares > 0].mean())


def _compare(case: Case, other: Contender, drawn: _Drawn) -> Comparison:
    is_champion = other is case.champion
    name = "champion" if is_champion else "anchor"
    if other.scores is None:
        return Comparison(other.version, note=other.problem)
    served = other.served is not None
    note = f"by the scores that it served ({other.problem})" if served else ""
    support = rarest(case, scored_rows(case, other))
    if not support:
        return Comparison(other.version, support, note=note)
    ours = f"candidate beside {name}" if served else "candidate"
    gain = drawn.difference(ours, name)
    earlier = case.earlier
    looks = earlier.looks if is_champion else earlier.anchor_looks
    if earlier.anchor == other.version:
        looks = max(looks, earlier.anchor_looks)
    past = _past(earlier.run, is_champion)
    return Comparison(
        version=other.version,
        support=support,
        metric=drawn.difference(name).value,
        gain=gain,
        drawn_high=drawn.upper_end(ours, name),
        pooled=pooled([gain, *past]),
        windows=1 + len(past),
        look=looks + 1,
        note=note,
    )


def _past(run: Sequence[Gain], is_champion: bool) -> list[Estimate]:
    if is_champion:
        return [Estimate(one.gain, one.gain_se) for one in run]
    return [
        Estimate(one.anchor_gain, one.anchor_gain_se)
        for one in run
        if one.anchor_gain is not None and one.anchor_gain_se is not None
    ]


class _Drawn:
    """Every statistic on the slice itself, and on the same resamples of it."""

    def __init__(self, policy: Gate, case: Case, slices: Mapping[str, Mask], seed: int) -> None:
        statistics = _statistics(policy, case, slices)
        self._confidence = policy.confidence
        ones = np.ones((1, len(case.labels)))
        self._points = {name: float(one(ones)[0]) for name, one in statistics.items()}
        drawn = resampled(
            list(statistics.values()), case.labels, policy.resamples, seed, case.entities
        )
        self._drawn = dict(zip(statistics, drawn.T, strict=True))

    def difference(self, name: str, other: str | None = None) -> Estimate:
        """A statistic, or how much larger it is than another."""
        if name not in self._points or (other is not None and other not in self._points):
            return UNKNOWN
        minus = 0.0 if other is None else self._points[other]
        drawn = self._drawn[name] - (0.0 if other is None else self._drawn[other])
        return Estimate(self._points[name] - minus, _deviation(drawn))

    def upper_end(self, name: str, other: str) -> float:
        """The upper end of a difference's percentile interval; NaN where few draws tell it."""
        drawn = self._drawn[name] - self._drawn[other]
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
    found = {"candidate": metric(policy.metric, candidate.scores, labels)}
    for name, other in (("champion", champion), ("anchor", case.anchor)):
        if other.scores is None or (name == "anchor" and other.version == champion.version):
            continue
        rows = scored_rows(case, other)
        if not rarest(case, rows):
            continue
        found[name] = _on(policy, other.scores, labels, rows)
        if other.served is not None:
            found[f"candidate beside {name}"] = _on(policy, candidate.scores, labels, rows)
    if "champion" in found and champion.scores is not None:
        for name, mask in slices.items():
            rows = mask & scored_rows(case, champion)
            if rarest(case, rows):
                found[f"champion in {name}"] = _on(policy, champion.scores, labels, rows)
                found[f"candidate in {name}"] = _on(policy, candidate.scores, labels, rows)
    return found | _sums(case, compared="champion" in found)


def _sums(case: Case, compared: bool) -> dict[str, Metric]:
    """Alerts of both, the sum of scores and that of labels; nothing for several classes."""
    ours, theirs = case.candidate, case.champion
    assert ours.scores is not None
    if ours.scores.ndim > 1 and ours.scores.shape[1] > 1:
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


def _on(policy: Gate, scores: Scores, labels: Labels, rows: Mask) -> Metric:
    """The metric on some of the examples."""
    if rows.all():
        return metric(policy.metric, scores, labels)
    part = metric(policy.metric, scores[rows], labels[rows])
    return lambda weights: part(weights[:, rows])


def _sum(values: NDArray[np.generic]) -> Callable[[Weights], NDArray[np.float64]]:
    column = values.astype(np.float64)
    return lambda weights: weights @ column
