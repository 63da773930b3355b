"""What the gate reads: metrics, gains and ratios with their errors, from scores and labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.spec import Gate
from workers.evaluation.estimates import UNKNOWN, Estimate, pooled
from workers.evaluation.history import Gain, History
from workers.evaluation.metrics import Labels, Metric, Scores, Weights, metric
from workers.evaluation.resampling import Entities, resampled

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Contender:
    """A version on the evaluation slice: candidate, champion or anchor."""

    version: int = 0
    """0 where there is none, and for the candidate."""
    scores: Scores | None = None
    """[n] or [n, outputs], of the same examples; None where there are none to compare."""
    threshold: float = 0.5
    served: Mask | None = None
    """[n] the examples whose scores are those that it served; None where it scored all anew."""
    problem: str = ""
    """Why it did not score the examples anew."""


@dataclass(frozen=True)
class Case:
    """All that the gate is told of a candidate."""

    labels: Labels
    """[n] of the evaluation slice."""
    candidate: Contender
    champion: Contender = Contender()
    anchor: Contender = Contender()
    validation: int | None = None
    """Examples of the rarest class where the threshold was chosen; None where none was."""
    earlier: History = field(default_factory=History)
    """Its run holds only what is independent of this evaluation slice (`history.apart`)."""
    entities: Entities | None = None
    """[n] what to resample by; None for single examples."""


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
        calibration=drawn.ratio("mean score", "prevalence"),
        slices={
            name: SliceGain(
                rarest(case, rows & _rows(case, case.champion)),
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


def rarest(case: Case, rows: Mask) -> int:
    """Examples of the rarest class among these rows; entities that have one, where those count."""
    scores = case.candidate.scores
    outputs = 1 if scores is None or scores.ndim == 1 else scores.shape[1]
    counts = []
    for one in range(max(2, outputs)):
        members = rows & (case.labels == one)
        of = members.nonzero()[0] if case.entities is None else np.unique(case.entities[members])
        counts.append(len(of))
    return min(counts)


def _rows(case: Case, other: Contender) -> Mask:
    """The examples that another version has scores of."""
    if other.scores is None:
        return np.zeros(len(case.labels), bool)
    return np.ones(len(case.labels), bool) if other.served is None else other.served


def _compare(case: Case, other: Contender, drawn: _Drawn) -> Comparison:
    is_champion = other is case.champion
    name = "champion" if is_champion else "anchor"
    if other.scores is None:
        return Comparison(other.version, note=other.problem)
    served = other.served is not None
    note = f"by the scores that it served ({other.problem})" if served else ""
    support = rarest(case, _rows(case, other))
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
        rows = _rows(case, other)
        if not rarest(case, rows):
            continue
        found[name] = _on(policy, other.scores, labels, rows)
        if other.served is not None:
            found[f"candidate beside {name}"] = _on(policy, candidate.scores, labels, rows)
    if "champion" in found and champion.scores is not None:
        for name, mask in slices.items():
            rows = mask & _rows(case, champion)
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
        rows = _rows(case, theirs)
        others = theirs.scores.reshape(len(case.labels))
        found["alerts"] = _sum((scores >= ours.threshold) & rows)
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
