"""How a pipeline is served: the decision, the fallback, and the breaker for bad records."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from streams.errors import PipelineError
from streams.spec.declared import check_fields

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
        check_fields(self, "decision")
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
    """The probability that such an event gets; of a value, the number that is its point and each of
    its quantiles."""
    after: float | None = None
    """Seconds that a micro-batch may wait for a model server, from when the worker received it;
    `None`: it waits for as long as it takes. Before the first version nothing waits. Since a
    backlog is received late, it is not degraded for its age."""

    def __post_init__(self) -> None:
        check_fields(self, "policies.fallback")
        if not math.isfinite(self.score):
            raise PipelineError(
                "policies.fallback.score", f"{self.score} is no score", "use a finite number"
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
    """The share is taken over at least this many records. A restart counts afresh, so it lets about
    as many more through."""

    def __post_init__(self) -> None:
        check_fields(self, "policies.invalid")
        if not 0.0 < self.ratio <= 1.0:
            raise PipelineError(
                "policies.invalid.ratio",
                f"{self.ratio} is not a share",
                "use a number above 0, up to 1 to never stop",
            )
        if self.over < 1:
            raise PipelineError("policies.invalid.over", f"{self.over} is no sample", "use 1+")
