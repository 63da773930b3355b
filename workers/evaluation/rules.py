"""The gate's rules: each a function from the evidence on a candidate to a `Rule`.

Two intervals are read. *Proven worse* is the plain two-sided interval of `Gate.confidence`: a good
candidate that is rejected by chance costs a window. *Proven not to be worse* must hold over all
candidates that are compared with one champion or one anchor, since a promotion stays: the look of
number k spends 1 / (k (k + 1)) of the allowed error. So the chance that any candidate is ever
promoted that is worse than a champion by more than the margin is (1 - confidence) / 2 at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from streams.spec.tasks import ERRORS, RANKS
from workers.evaluation.estimates import Estimate, deviations, share_of_look
from workers.evaluation.evidence import Comparison, Evidence, SliceGain

_SURER = 20
"""The floor may err this many times less often: what has learnt anything is far above chance."""
_EXACT = 1e-9
"""Scores that know nothing reach chance but for rounding."""
_WORDS = {
    "average_precision": "AP",
    "roc_auc": "AUC",
    "accuracy": "accuracy",
    "wape": "WAPE",
    "mae": "MAE",
    "rmse": "RMSE",
    "pinball": "pinball loss",
    "ndcg": "nDCG",
    "mrr": "MRR",
    "hit_rate": "hit rate",
}


class Verdict(StrEnum):
    """What a rule says."""

    PASSED = "passed"
    FAILED = "failed"
    OPEN = "open"


@dataclass(frozen=True)
class Rule:
    """One rule, applied."""

    name: str
    verdict: Verdict
    number: float = math.nan
    """NaN where there is nothing to measure."""
    bound: float = math.nan
    said: str = ""
    """One phrase."""

    def __str__(self) -> str:
        if math.isnan(self.number):
            return f"{self.name} {self.verdict} ({self.said})"
        return f"{self.name} {self.verdict} ({self.number:.4g}, bound {self.bound:.4g})"


def apply(e: Evidence) -> list[Rule]:
    """Every rule on this evidence; without support there is no evidence for any other."""
    first = support(e)
    if first.verdict is not Verdict.PASSED:
        return [first]
    return [first, *(rule(e) for rule in RULES), *slice_rules(e)]


def support(e: Evidence) -> Rule:
    """There are enough examples of the rarest class to judge by."""
    least = e.policy.least_support
    said = f"the evaluation slice has {_counted(e, e.support)}, {least} are needed"
    return Rule("support", _passed_or_open(e.support >= least), e.support, least, said)


def threshold(e: Evidence) -> Rule:
    """There were enough examples of the rarest class to choose the threshold by."""
    if e.validation is None:
        return Rule("threshold", Verdict.PASSED, said="none was chosen")
    least = e.policy.least_support
    said = f"the validation slice has {e.validation} of the rarest class, {least} are needed"
    return Rule("threshold", _passed_or_open(e.validation >= least), e.validation, least, said)


def floor(e: Evidence) -> Rule:
    """The candidate is proven better than knowing nothing, and than the declared floor."""
    bound = max(e.chance, e.policy.floor)
    z = deviations(share_of_look((1 - e.policy.confidence) / _SURER, e.champion.look))
    low, high = e.skill.low(z), e.skill.high(_plain(e))
    verdict = Verdict.FAILED if high <= bound + _EXACT else _passed_or_open(low > bound)
    versions = "" if e.champion.version else "first version: "
    if e.champion.version and e.champion.support is None:
        versions = f"champion {e.champion.version} cannot be compared ({e.champion.note}): "
    said = (
        f"{versions}{_WORDS[e.policy.metric]} {e.candidate.value:.4f}, "
        f"{'better than a constant by' if _erring(e) else 'interval'} [{low:.4f}, {high:.4f}], "
        f"floor {bound:.4f}"
    )
    return Rule("floor", verdict, low, bound, said)


def worse(e: Evidence) -> Rule:
    """The candidate is not proven worse than the champion, by its own window or by all."""
    return _worse("worse", "champion", e, e.champion)


def margin(e: Evidence) -> Rule:
    """The candidate is proven not to be worse than the champion by more than the margin."""
    return _margin("margin", "champion", e, e.champion)


def anchor_worse(e: Evidence) -> Rule:
    """The candidate is not proven worse than the anchor: small losses may not add up."""
    return _anchored(e, "anchor-worse", _worse)


def anchor_margin(e: Evidence) -> Rule:
    """The candidate is proven not to be worse than the anchor by more than the margin."""
    return _anchored(e, "anchor-margin", _margin)


def alerts(e: Evidence) -> Rule:
    """At its threshold the candidate gives about as many alerts as the champion at its own.

    Fewer are as good where they are about as many as the positives: a champion that has come to
    give alarm too often must not keep out what does not.
    """
    said = "alerts are {:.2f} times the champion's"
    found = _ratio("alerts", e, e.alerts, e.policy.alerts, said)
    positives = e.alerts_to_positives
    fewer = e.alerts is not None and e.alerts.value < 0
    if fewer and positives is not None and positives.value >= -math.log(e.policy.alerts):
        return replace(found, verdict=Verdict.PASSED)
    return found


def calibration(e: Evidence) -> Rule:
    """The mean score is about the share of positives; quantiles cover about what they should."""
    return _ratio("calibration", e, e.calibration, e.policy.calibration, e.miscalibrated)


RULES: tuple[Callable[[Evidence], Rule], ...] = (
    worse,
    anchor_worse,
    floor,
    threshold,
    margin,
    anchor_margin,
    alerts,
    calibration,
)
"""In the order in which they are named where several decide alike."""


def slice_rules(e: Evidence) -> list[Rule]:
    """In no slice with enough support is the candidate proven worse; the slices share the error."""
    found = e.slices or {}
    large = sum(one.support >= e.policy.least_support for one in found.values())
    z = deviations((1 - e.policy.confidence) / max(1, large))
    return [_slice(e, name, one, z) for name, one in found.items()]


def _slice(e: Evidence, name: str, one: SliceGain, z: float) -> Rule:
    name = f"slice {name}"
    if one.support < e.policy.least_support:
        return Rule(name, Verdict.PASSED, said=f"{_counted(e, one.support)}: not judged")
    high = one.gain.high(z)
    said = f"gain {one.gain.value:+.4f}, upper end {high:+.4f}"
    return Rule(name, _passed_or_failed(not high < 0), high, 0.0, said)


_Against = Callable[[str, str, Evidence, Comparison], Rule]


def _worse(name: str, other: str, e: Evidence, found: Comparison) -> Rule:
    missing = _not_compared(name, other, e, found)
    if missing is not None:
        return missing
    ends = found.gain.high(_plain(e)), found.drawn_high, found.pooled.high(_plain(e))
    high = min(end for end in ends if not math.isnan(end))
    said = f"{_gain(e, other, found, _plain(e))}, upper end {high:+.4f}"
    return Rule(name, _passed_or_failed(not high < 0), high, 0.0, said)


def _margin(name: str, other: str, e: Evidence, found: Comparison) -> Rule:
    missing = _not_compared(name, other, e, found)
    if missing is not None:
        return missing
    z, bound = careful(e, found), -e.policy.margin * found.metric
    low = found.pooled.low(z)
    said = f"{_gain(e, other, found, z)}, lower end {low:+.4f}, bound {bound:+.4f}"
    return Rule(name, _passed_or_open(low >= bound and found.gain.value >= bound), low, bound, said)


def _anchored(e: Evidence, name: str, against: _Against) -> Rule:
    if not e.anchor.version:
        return Rule(name, Verdict.PASSED, said="there is no anchor")
    if e.anchor.version == e.champion.version:
        return Rule(name, Verdict.PASSED, said="the champion is the anchor")
    if e.champion.compared and e.champion.gain.low(careful(e, e.champion)) > 0:
        return Rule(name, Verdict.PASSED, said="proven better than the champion: no descent")
    return against(name, "anchor", e, e.anchor)


def _not_compared(name: str, other: str, e: Evidence, found: Comparison) -> Rule | None:
    """What is said where there is no other version, or too little to compare by."""
    if not found.version:
        return Rule(name, Verdict.PASSED, said=f"there is no {other}")
    if found.support is None:
        said = f"{other} {found.version} cannot be compared ({found.note})"
        return Rule(name, Verdict.PASSED, said=said)
    if found.support < (least := e.policy.least_support):
        said = f"{_counted(e, found.support)} {found.note}, {least} are needed"
        return Rule(name, Verdict.OPEN, found.support, least, said)
    return None


def _ratio(name: str, e: Evidence, found: Estimate | None, bound: float, said: str) -> Rule:
    """Fails where the ratio is beyond the bound, either way, for certain; open where it may be."""
    if found is None:
        return Rule(name, Verdict.PASSED, said="not defined here")
    away, limit = abs(found.value), math.log(bound)
    if away <= limit:
        verdict = Verdict.PASSED
    else:
        beyond = away - _plain(e) * found.error > limit
        verdict = Verdict.FAILED if beyond else Verdict.OPEN
    ratio = math.exp(found.value)
    return Rule(name, verdict, ratio, bound, f"{said.format(ratio)}, bound {bound:g} either way")


def _gain(e: Evidence, other: str, found: Comparison, z: float) -> str:
    """The gain in words, with the interval of z standard errors."""
    word, better = _WORDS[e.policy.metric], -1 if _erring(e) else 1
    said = (
        f"{word} {found.metric + better * found.gain.value:.4f} against {found.metric:.4f} of "
        f"{other} {found.version}: gain {found.gain.value:+.4f} "
        f"[{found.gain.low(z):+.4f}, {found.gain.high(z):+.4f}]"
    )
    if found.windows > 1:
        said += f", of {found.windows} windows {found.pooled.value:+.4f}"
    return f"{said} {found.note}".rstrip()


def _erring(e: Evidence) -> bool:
    """Whether the metric is an error: lower is better."""
    return e.policy.metric in ERRORS


def _counted(e: Evidence, support: int) -> str:
    if e.policy.metric in RANKS:
        return f"{support} requests of which something was chosen"
    return f"{support} examples" if _erring(e) else f"{support} of the rarest class"


def _plain(e: Evidence) -> float:
    """Standard errors of one look's interval."""
    return deviations(1 - e.policy.confidence)


def careful(e: Evidence, against: Comparison) -> float:
    """Standard errors of an interval that holds over all looks at this version."""
    return deviations(share_of_look(1 - e.policy.confidence, against.look))


def _passed_or_open(passed: bool | np.bool_) -> Verdict:
    return Verdict.PASSED if passed else Verdict.OPEN


def _passed_or_failed(passed: bool | np.bool_) -> Verdict:
    return Verdict.PASSED if passed else Verdict.FAILED
