"""When what is served has drifted from what a version was trained on."""

from __future__ import annotations

from dataclasses import dataclass

from streams.errors import PipelineError
from streams.spec.declared import check_fields

_WHERE = "policies.drift"


@dataclass(frozen=True)
class Drift:
    """When the features or scores that a version serves are no longer as in its training slice."""

    rate: float = 0.01
    """False alarms of a bucket of `evaluate.every` in which nothing has drifted, all features and
    scores together: 0.01 is one in a hundred buckets. 0.001 to 0.1."""
    least: float = 0.05
    """A shift of a feature or score is no alarm, however sure, where the population stability index
    is not this much above what buckets of the training slice have: below 0.1 is commonly called
    small, above 0.25 large."""
    retrain: bool = True
    """Whether the first alarm of a champion makes a candidate, as soon as labels have matured that
    far. The gate judges it as any other."""

    def __post_init__(self) -> None:
        check_fields(self, _WHERE)
        if not 0.001 <= self.rate <= 0.1:
            raise PipelineError(
                f"{_WHERE}.rate", f"{self.rate} is not in [0.001, 0.1]", "use 0.01 or so"
            )
        if not 0.0 <= self.least < float("inf"):
            raise PipelineError(
                f"{_WHERE}.least", f"{self.least} is no stability index", "use 0.05 or so"
            )
