"""Policies: data that says how a pipeline is served, retrained, gated and rolled out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from streams.errors import PipelineError
from streams.spec.durations import Duration, seconds

Delivery = Literal["exactly_once", "at_least_once"]


@dataclass(frozen=True)
class Decision:
    """Post-processing of scores: for one output a threshold, else the best class; then a name."""

    threshold: float | None = None
    """A single score at or above this is class 1; `None`: each version brings its own, chosen for
    the best F1 on its validation slice (0.5 until there is a version)."""
    classes: tuple[str, ...] = ("negative", "positive")
    """Names by class index."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise PipelineError(
                "decision.threshold",
                f"{self.threshold} is not a probability",
                "use a number from 0 to 1",
            )
        if len(self.classes) < 2:
            raise PipelineError(
                "decision.classes", "names fewer than two classes", "name each class once"
            )


@dataclass(frozen=True)
class Fallback:
    """What is served instead of a model's score: version 0, marked `degraded`."""

    score: float = 0.0
    after: float | None = None
    """Seconds that a micro-batch may wait for a model server, from when the worker received it;
    `None`: it waits for as long as it takes. Before the first version nothing waits. Since a
    backlog is received late, it is not degraded for its age."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise PipelineError(
                "policies.fallback.score",
                f"{self.score} is not a probability",
                "use a number from 0 to 1",
            )
        if self.after is not None and not self.after > 0:
            raise PipelineError(
                "policies.fallback.after",
                f"{self.after} is not a time to wait",
                "use seconds above 0, or None to wait for as long as it takes",
            )


@dataclass(frozen=True)
class Invalid:
    """When bad records are too many to be set aside one by one: the worker stops, and says so."""

    ratio: float = 0.5
    """Largest share of bad records among a partition's latest."""
    over: int = 1000
    """Records that the share is taken of, at least. A restart starts counting afresh, and so lets
    at most about as many more through."""

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio <= 1.0:
            raise PipelineError(
                "policies.invalid.ratio",
                f"{self.ratio} is not a share",
                "use a number above 0, up to 1 to never stop",
            )
        if self.over < 1:
            raise PipelineError("policies.invalid.over", f"{self.over} is no sample", "use 1+")


@dataclass(frozen=True)
class Retrain:
    """When the trainer makes a candidate, and from which examples; all in event time."""

    every: Duration = "7d"
    """Event time between candidates, measured on matured examples."""
    window: Duration = "28d"
    """Most recent matured event time to use: training slice, validation slice, evaluation slice."""
    validate: Duration = "1d"
    """Slice after the training slice: early stopping and the threshold come from it."""
    evaluate: Duration = "2d"
    """Last slice: candidate and champion are compared on it."""
    least_examples: int = 1000
    """No candidate is made from fewer training examples."""
    least_positives: int = 20
    """No candidate is made from fewer examples of the rarest class."""

    def __post_init__(self) -> None:
        slices = self.validate_seconds + self.evaluate_seconds
        if self.window_seconds <= slices:
            raise PipelineError(
                "policies.retrain.window",
                f"{self.window} leaves nothing to train on",
                "make it longer than validate + evaluate",
            )
        if self.every_seconds < 1:
            raise PipelineError("policies.retrain.every", "is zero", "use 1s or more")

    @property
    def every_seconds(self) -> int:
        """Event-time seconds between candidates."""
        return seconds(self.every, "policies.retrain.every")

    @property
    def window_seconds(self) -> int:
        """Event-time seconds of matured examples that are used."""
        return seconds(self.window, "policies.retrain.window")

    @property
    def validate_seconds(self) -> int:
        """Event-time seconds of the validation slice."""
        return seconds(self.validate, "policies.retrain.validate")

    @property
    def evaluate_seconds(self) -> int:
        """Event-time seconds of the evaluation slice."""
        return seconds(self.evaluate, "policies.retrain.evaluate")


@dataclass(frozen=True)
class Gate:
    """When a candidate may replace the champion: a paired bootstrap on the same later window."""

    metric: Literal["average_precision", "roc_auc", "accuracy"] = "average_precision"
    margin: float = 0.02
    """The candidate may be worse by this much at most (lower end of the interval of the gain)."""
    confidence: float = 0.9
    """Two-sided confidence of the interval."""
    resamples: int = 500
    """Bootstrap resamples."""
    least_support: int = 20
    """Fewer examples of the rarest class than this: inconclusive."""
    floor: float = 0.0
    """The metric's least value for the very first version."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1.0:
            raise PipelineError(
                "policies.gate.confidence",
                f"{self.confidence} is not in [0.5, 1)",
                "use 0.9 or 0.95",
            )
        if self.margin < 0:
            raise PipelineError(
                "policies.gate.margin", f"{self.margin} is negative", "use 0 or more"
            )
        if self.resamples < 100:
            raise PipelineError(
                "policies.gate.resamples", f"{self.resamples} is too few", "use 100+"
            )


@dataclass(frozen=True)
class Policies:
    """How a pipeline is served and kept fresh."""

    delivery: Delivery = "exactly_once"
    fallback: Fallback = field(default_factory=Fallback)
    invalid: Invalid = field(default_factory=Invalid)
    retrain: Retrain = field(default_factory=Retrain)
    gate: Gate = field(default_factory=Gate)
    keep_versions: int = 2
    """Versions kept loaded: the champion and those before it, ready for a rollback."""

    def __post_init__(self) -> None:
        if self.delivery not in ("exactly_once", "at_least_once"):
            raise PipelineError(
                "policies.delivery",
                f"{self.delivery!r} is not known",
                "use exactly_once or at_least_once",
            )
        if self.keep_versions < 2:
            raise PipelineError(
                "policies.keep_versions",
                f"{self.keep_versions} leaves no way back",
                "use 2 or more",
            )
