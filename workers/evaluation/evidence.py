"""What the gate reads: metrics, gains and ratios with their errors, from scores and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streams.spec import Gate
from streams.spec.tasks import Task
from workers.evaluation.case import Case, Contender, Mask, scored_rows, supporting
from workers.evaluation.drawn import Drawn
from workers.evaluation.estimates import UNKNOWN, Estimate, pooled
from workers.evaluation.history import Gain
from workers.evaluation.metrics import Labels
from workers.evaluation.rankings import rank_chance


@dataclass(frozen=True)
class Comparison:
    """The candidate against another version, on the same examples."""

    version: int
    support: int | None = None
    """As in `Evidence`, among the examples that both have scores of; None without any."""
    metric: float = math.nan
    """The other version's."""
    gain: Estimate = UNKNOWN
    """How much better the candidate is than the other, on this slice."""
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
    """Examples of the rarest class, or entities that have some; of a value, all of them; of a
    ranking, requests of which something was chosen."""
    validation: int | None
    chance: float
    """What a model without knowledge reaches of `skill`."""
    candidate: Estimate = UNKNOWN
    """Its metric."""
    skill: Estimate = UNKNOWN
    """What is to be above chance: its metric, or how much better a value is than a constant."""
    champion: Comparison = Comparison(0)
    anchor: Comparison = Comparison(0)
    """The champion's where the champion is the anchor."""
    alerts: Estimate | None = None
    """Logarithm of the candidate's alerts over the champion's; None where not defined."""
    alerts_to_positives: Estimate | None = None
    """Logarithm of the candidate's alerts over the positives, on the same examples."""
    calibration: Estimate | None = None
    """Logarithm of mean score over prevalence; of a value, that of the odds of a label above a
    quantile over what they should be, of the worst one. None where there is neither."""
    miscalibrated: str = "the mean score is {:.2f} times the share of positives"
    """What that ratio says."""
    slices: Mapping[str, SliceGain] | None = None


def gather(policy: Gate, case: Case, slices: Mapping[str, Mask], seed: int) -> Evidence:
    """The evidence on a candidate; every error is from one bootstrap, paired throughout.

    Without support there is nothing but its number: metrics may not be defined then.
    """
    support = supporting(case, np.ones(len(case.labels), bool))
    if support < policy.least_support:
        return Evidence(policy, support, case.validation, chance=math.nan)
    assert case.candidate.scores is not None
    drawn = Drawn(policy, case, slices, seed)
    champion = _compare(case, case.champion, drawn)
    same = case.earlier.anchor == case.champion.version
    anchor = champion if same else _compare(case, case.anchor, drawn)
    found = Evidence(
        policy=policy,
        support=support,
        validation=case.validation,
        chance=_chance(policy.metric, case),
        candidate=drawn.difference("candidate"),
        skill=drawn.difference("candidate"),
        champion=champion,
        anchor=anchor,
        alerts=drawn.ratio("alerts", "champion's alerts"),
        alerts_to_positives=drawn.ratio("alerts", "positives"),
        calibration=drawn.ratio("mean score", "prevalence"),
        slices={
            name: SliceGain(
                supporting(case, rows & scored_rows(case, case.champion)),
                drawn.gain(f"candidate in {name}", f"champion in {name}"),
            )
            for name, rows in slices.items()
            if champion.compared
        },
    )
    return replace(found, **_of_value(case.task, drawn)) if case.task.numeric else found


def _of_value(task: Task, drawn: Drawn) -> dict[str, Any]:
    """What is known of a value otherwise than of a class."""
    found: dict[str, Any] = {"skill": drawn.gain("candidate", "constant")}
    odds = {q: drawn.ratio(f"above {q}", f"not above {q}") for q in task.quantiles}
    ratios = {
        q: Estimate(one.value - math.log((1 - q) / q), one.error)
        for q, one in odds.items()
        if one is not None
    }
    if ratios:
        worst = max(ratios, key=lambda q: abs(ratios[q].value))
        said = f"the odds of a label above the quantile {worst:g} are {{:.2f}} times those declared"
        found |= {"calibration": ratios[worst], "miscalibrated": said}
    return found


def _chance(name: str, case: Case) -> float:
    if case.task.ranks:
        return rank_chance(name, case.labels, case.task)
    return chance(name, case.labels) if case.task.classes else 0.0


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


def _compare(case: Case, other: Contender, drawn: Drawn) -> Comparison:
    is_champion = other is case.champion
    name = "champion" if is_champion else "anchor"
    if other.scores is None:
        return Comparison(other.version, note=other.problem)
    served = other.served is not None
    note = f"by the scores that it served ({other.problem})" if served else ""
    support = supporting(case, scored_rows(case, other))
    if not support:
        return Comparison(other.version, support, note=note)
    ours = f"candidate beside {name}" if served else "candidate"
    gain = drawn.gain(ours, name)
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
