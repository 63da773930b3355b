"""How a pipeline is kept fresh: when a candidate is made, and from which examples."""

from __future__ import annotations

from dataclasses import dataclass

from streams.errors import PipelineError
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
