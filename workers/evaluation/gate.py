"""The gate: may this candidate replace the champion? A pure function of scores and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streams.records import Action
from streams.spec import Gate
from workers.evaluation.metrics import Labels, Scores, metric, point
from workers.evaluation.resampling import paired


@dataclass(frozen=True)
class Opponent:
    """The champion, as far as it can be compared."""

    version: int = 0
    """0 where there is none."""
    scores: Scores | None = None
    """Its scores of the same examples; None where it cannot score them."""
    problem: str = ""
    """Why it cannot: its file does not load, or it was trained on other features."""


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided, and from what."""

    action: Action
    reason: str
    """One sentence with the numbers."""
    metric: str
    candidate: float
    """The metric on the evaluation slice; NaN where it is not defined."""
    champion: float
    gain: float
    """candidate - champion; NaN without a champion to compare with."""
    low: float
    """Interval of the gain."""
    high: float
    support: int
    """Examples of the rarest class."""

    def as_metrics(self) -> dict[str, float]:
        """The numbers that are defined, for a manifest."""
        numbers = {
            self.metric: self.candidate,
            f"champion_{self.metric}": self.champion,
            "gain": self.gain,
            "gain_low": self.low,
            "gain_high": self.high,
            "support": float(self.support),
        }
        return {name: value for name, value in numbers.items() if np.isfinite(value)}


_WORDS = {"average_precision": "AP", "roc_auc": "AUC", "accuracy": "accuracy"}
_NAN = float("nan")


def decide(
    policy: Gate, labels: Labels, candidate: Scores, champion: Opponent, seed: int = 0
) -> GateDecision:
    """Promote, reject or leave open a candidate, on the evaluation slice.

    Candidate and champion score the same n examples: labels [n], scores [n, outputs]. The gain's
    interval is a paired, stratified bootstrap (Efron & Tibshirani, An Introduction to the
    Bootstrap, 1993, ch. 13: percentiles). With enough support:

    - promoted, when the gain's lower end is at least -margin;
    - rejected, when its upper end is below 0;
    - inconclusive otherwise.

    Without a champion to compare with, the metric must reach the policy's floor.
    """
    found = _Found(policy, labels, candidate, champion)
    support = found.support
    if support < policy.least_support:
        return found.decision(
            Action.INCONCLUSIVE,
            f"the evaluation slice has {support} examples of the rarest class, "
            f"{policy.least_support} are needed",
        )
    if champion.scores is None:
        return _against_floor(policy, found, champion)
    interval = _interval(policy, labels, candidate, champion.scores, seed)
    return _compare(policy, found, interval)


class _Found:
    """The point values, and a decision made of them."""

    def __init__(self, policy: Gate, labels: Labels, candidate: Scores, champion: Opponent) -> None:
        classes = max(2, candidate.reshape(len(labels), -1).shape[1]) if len(labels) else 2
        self.name = policy.metric
        self.word = _WORDS[policy.metric]
        self.support = int(np.bincount(labels.astype(np.int64), minlength=classes).min())
        self.candidate = point(policy.metric, candidate, labels)
        self.champion = (
            _NAN if champion.scores is None else point(policy.metric, champion.scores, labels)
        )
        self.version = champion.version

    def decision(
        self, action: Action, reason: str, interval: tuple[float, float] = (_NAN, _NAN)
    ) -> GateDecision:
        return GateDecision(
            action=action,
            reason=reason,
            metric=self.name,
            candidate=self.candidate,
            champion=self.champion,
            gain=self.candidate - self.champion,
            low=interval[0],
            high=interval[1],
            support=self.support,
        )


def _against_floor(policy: Gate, found: _Found, champion: Opponent) -> GateDecision:
    alone = (
        f"champion {champion.version} cannot be compared ({champion.problem})"
        if champion.version
        else "first version"
    )
    reached = found.candidate >= policy.floor
    relation = "reaches" if reached else "is below"
    return found.decision(
        Action.PROMOTE if reached else Action.REJECT,
        f"{alone}: {found.word} {found.candidate:.4f} {relation} the floor {policy.floor:g}",
    )


def _interval(
    policy: Gate, labels: Labels, candidate: Scores, champion: Scores, seed: int
) -> tuple[float, float]:
    pair = metric(policy.metric, candidate, labels), metric(policy.metric, champion, labels)
    values = paired(pair, labels, policy.resamples, seed)
    tail = (1 - policy.confidence) / 2
    low, high = np.quantile(values[:, 0] - values[:, 1], [tail, 1 - tail])
    return float(low), float(high)


def _compare(policy: Gate, found: _Found, interval: tuple[float, float]) -> GateDecision:
    low, high = interval
    said = (
        f"{found.word} {found.candidate:.4f} against {found.champion:.4f} of champion "
        f"{found.version}: gain {found.candidate - found.champion:+.4f}, "
        f"{policy.confidence:.0%} interval [{low:+.4f}, {high:+.4f}]"
    )
    if low >= -policy.margin:
        return found.decision(Action.PROMOTE, f"{said}, above -{policy.margin:g}", interval)
    if high < 0:
        return found.decision(Action.REJECT, f"{said}, below 0", interval)
    return found.decision(
        Action.INCONCLUSIVE, f"{said}, contains both -{policy.margin:g} and 0", interval
    )
