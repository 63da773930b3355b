"""How a candidate comes to serve: the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streams.errors import PipelineError
from streams.spec.declared import check_fields


@dataclass(frozen=True)
class Gate:
    """When a candidate may replace the champion: a paired bootstrap on the same later window."""

    metric: Literal["average_precision", "roc_auc", "accuracy"] = "average_precision"
    """What candidate and champion are compared by; of several classes `roc_auc` is the mean over
    the classes, each against the rest."""
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
        check_fields(self, "policies.gate")
        if not 0.5 <= self.confidence < 1.0:
            raise PipelineError(
                "policies.gate.confidence",
                f"{self.confidence} is not in [0.5, 1)",
                "use 0.9 or 0.95",
            )
        if self.least_support < 1:
            raise PipelineError(
                "policies.gate.least_support", f"{self.least_support} is no support", "use 1+"
            )
        if not 0.0 <= self.floor <= 1.0:
            raise PipelineError(
                "policies.gate.floor", f"{self.floor} is never reached", "use a number from 0 to 1"
            )
        if not 0.0 <= self.margin <= 1.0:
            raise PipelineError(
                "policies.gate.margin", f"{self.margin} is not in [0, 1]", "use 0.02 or so"
            )
        if self.resamples < 100:
            raise PipelineError(
                "policies.gate.resamples", f"{self.resamples} is too few", "use 100+"
            )
