"""How a candidate comes to serve: the gate, and the roll-out by degrees."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NoReturn

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.durations import Duration, seconds
from streams.spec.tasks import MetricName


@dataclass(frozen=True)
class Gate:
    """When a candidate may replace the champion, on the same later window."""

    metric: MetricName = "average_precision"
    """What candidate and champion are compared by; of several classes `roc_auc` is the mean over
    the classes, each against the rest. A value has errors, which are better where they are lower:
    `wape` unless told otherwise, the absolute errors' sum over that of the labels' sizes; of its
    quantiles, `pinball`."""
    margin: float = 0.05
    """The candidate may be worse than the champion, or than the anchor, by this share of its
    metric at most: the lower end of the gain's interval says so."""
    confidence: float = 0.9
    """Two-sided confidence of the intervals; of what must hold before a promotion, over all
    candidates that are compared with one champion."""
    resamples: int = 500
    """Bootstrap resamples, from which standard errors come."""
    least_support: int = 20
    """Fewer of the rarest class than this in the evaluation slice, or in the validation slice
    where the threshold is chosen: inconclusive. Of a value, fewer examples."""
    floor: float = 0.0
    """What every version's metric must be proven to be above, beside chance (prevalence, 0.5, or
    the majority's share). A value must be proven better than the training slice's best constant."""
    alerts: float = 3.0
    """The candidate's alerts may be this many times the champion's, or that part of them; fewer are
    as good while they are at least that part of the positives."""
    calibration: float = 2.0
    """The candidate's mean score may be this many times the share of positives, or that part. Of a
    value, the labels beyond each quantile may be this many times those that should be."""
    resample: Literal["example", "entity"] = "example"
    """What is drawn: single examples, or all examples of an event key (a cluster bootstrap), where
    those of a key resemble one another."""

    def __post_init__(self) -> None:
        check_fields(self, "policies.gate")
        if not 0.5 <= self.confidence < 1.0:
            self._wrong("confidence", "is not in [0.5, 1)", "use 0.9 or 0.95")
        if self.least_support < 1:
            self._wrong("least_support", "is no support", "use 1+")
        if not 0.0 <= self.floor <= 1.0:
            self._wrong("floor", "is never reached", "use a number from 0 to 1")
        if not 0.0 <= self.margin <= 1.0:
            self._wrong("margin", "is not in [0, 1]", "use 0.05 or so, a share of the metric")
        if self.resamples < 100:
            self._wrong("resamples", "is too few", "use 100+")
        for name in ("alerts", "calibration"):
            if not 1.0 < getattr(self, name) < float("inf"):
                self._wrong(name, "is no ratio that can be held", "use 3 or so, above 1")

    def _wrong(self, name: str, problem: str, mend: str) -> NoReturn:
        raise PipelineError(f"policies.gate.{name}", f"{getattr(self, name)} {problem}", mend)


@dataclass(frozen=True)
class RollOut:
    """How a version that the gate let through comes to serve everybody, step by step.

    It scores live events in the shadow first, then serves a growing share of the entities, then
    all of them while its predecessor is the shadow. Versions are compared by the difference of
    their losses on the same labelled events. The version goes one step further when it has been
    proven harmless; it is taken back once it is proven worse. All times are event time.
    """

    shadow: Duration = "3d"
    """How long it is in the shadow at least, and how long it is watched after its promotion: until
    it is proven harmless by what happened since, or the next version waits."""
    canary: tuple[float, ...] = (0.01, 0.05, 0.25)
    """The shares of entities that it serves before it serves all, rising."""
    every: Duration = "1d"
    """How long each share lasts at least. The roll-out freezes when no feedback came for longer."""
    least: int = 1000
    """Labelled events that each step takes at least."""
    harm: float = 0.01
    """Harmless is a mean loss proven to be above the champion's by less than this. The loss of a
    score is its squared error with all classes made equally frequent: 0.25 of a coin's. Of a value
    it is the mean of the point's absolute error and the quantiles' pinball losses, as a share of
    what 99 % of the champion's were below on its validation slice; a larger one counts as that."""
    confidence: float = 0.95
    """With this probability no conclusion of a whole roll-out is wrong, however often one looks."""
    holdout: float = 0.0
    """Share of entities that stays with the predecessor while the new champion is watched."""
    slowest: float = 0.25
    """Seconds that an answer may take. The champion answers what takes longer, and a version whose
    answers do, while the champion's do not, is taken back."""
    erring: float = 0.01
    """It is taken back where it gives no finite score for more than this share of the events."""
    shift: float = 3.0
    """It is taken back where its mean score is more than this many times the champion's, or less
    than that part of it, and as far from the share of class 1 in what it was trained on. Of a
    value, where it is as many standard deviations of the champion's scores off their mean."""

    def __post_init__(self) -> None:
        check_fields(self, "policies.rollout")
        self._check_times()
        self._check_shares()
        if self.least < 1:
            raise PipelineError(
                "policies.rollout.least", f"{self.least} proves nothing", "use 1000 or so"
            )
        if not 0.0 < self.harm < 1.0:
            raise PipelineError(
                "policies.rollout.harm", f"{self.harm} is not in (0, 1)", "use 0.002 or so"
            )
        if not 0.5 <= self.confidence < 1.0:
            raise PipelineError(
                "policies.rollout.confidence",
                f"{self.confidence} is not in [0.5, 1)",
                "use 0.95 or 0.99",
            )
        self._check_guards()

    @classmethod
    def at_once(cls) -> RollOut:
        """What the gate lets through serves everybody at once, and nobody watches it."""
        return cls(shadow="0s", canary=())

    @property
    def gradual(self) -> bool:
        """Whether there is any step between the gate and serving everybody."""
        return self.shadow_seconds > 0

    @property
    def shadow_seconds(self) -> int:
        """Event-time seconds in the shadow."""
        return seconds(self.shadow, "policies.rollout.shadow")

    @property
    def every_seconds(self) -> int:
        """Event-time seconds of a share, and without feedback."""
        return seconds(self.every, "policies.rollout.every")

    def step_confidence(self, intervals: int = 1) -> float:
        """The confidence of one step's interval; of each, where it looks at several.

        The probability of error is split evenly over the steps (shadow, shares, watch) and a
        step's intervals, by the union bound: all of them hold together with `confidence`.
        """
        return 1.0 - (1.0 - self.confidence) / ((len(self.canary) + 2) * intervals)

    def _check_times(self) -> None:
        if self.every_seconds < 1:
            raise PipelineError("policies.rollout.every", "is zero", "use 1h or more")
        if self.canary and not self.shadow_seconds:
            raise PipelineError(
                "policies.rollout.shadow",
                "is zero: the canary would begin without evidence",
                "use 1h or more, or RollOut.at_once()",
            )

    def _check_guards(self) -> None:
        if not 0.0 < self.slowest < float("inf"):
            raise PipelineError(
                "policies.rollout.slowest", f"{self.slowest} s is no time", "use 0.25 or so"
            )
        if not 0.0 <= self.erring < 1.0:
            raise PipelineError(
                "policies.rollout.erring", f"{self.erring} is not in [0, 1)", "use 0.01 or so"
            )
        if not 1.0 < self.shift < float("inf"):
            raise PipelineError(
                "policies.rollout.shift", f"{self.shift} is no ratio above 1", "use 3 or so"
            )

    def _check_shares(self) -> None:
        rising = all(before < after for before, after in pairwise((0.0, *self.canary, 1.0)))
        if not rising:
            raise PipelineError(
                "policies.rollout.canary",
                f"{self.canary} does not rise between 0 and 1",
                "write (0.01, 0.05, 0.25)",
            )
        largest = max(self.canary, default=0.0)
        if not 0.0 <= self.holdout <= 1.0 - largest:
            raise PipelineError(
                "policies.rollout.holdout",
                f"{self.holdout} is not in [0, {1.0 - largest:g}], what the last canary leaves",
                "use 0.05 or so",
            )
