"""How a pipeline is kept fresh: when a candidate is made, and from which examples."""

from __future__ import annotations

from dataclasses import dataclass

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.durations import Duration, seconds


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
    processes: int = 1
    """Processes that train a candidate together on one machine; with GPUs, one on each."""
    warm_start: bool = False
    """Whether a candidate begins from the champion: a network with its weights, boosted trees with
    its trees. Its file then carries them, too."""

    def __post_init__(self) -> None:
        check_fields(self, "policies.retrain")
        slices = self.validate_seconds + self.evaluate_seconds
        if self.window_seconds <= slices:
            raise PipelineError(
                "policies.retrain.window",
                f"{self.window} leaves nothing to train on",
                "make it longer than validate + evaluate",
            )
        for name in ("every", "validate", "evaluate"):
            if getattr(self, f"{name}_seconds") < 1:
                raise PipelineError(f"policies.retrain.{name}", "is zero", "use 1s or more")
        if self.window_seconds < self.every_seconds:
            raise PipelineError(
                "policies.retrain.window",
                f"{self.window} is shorter than every={self.every}: examples between two "
                "candidates would never be learned from",
                "make it as long at least",
            )
        if self.processes < 1:
            raise PipelineError(
                "policies.retrain.processes", f"{self.processes} train nothing", "use 1 or more"
            )
        if self.least_examples < 1 or not 1 <= self.least_positives <= self.least_examples:
            raise PipelineError(
                "policies.retrain.least_positives",
                f"{self.least_positives} of {self.least_examples} examples cannot be",
                "use 1 or more, and at most least_examples",
            )

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
