"""What a pipeline may cost."""

from __future__ import annotations

from dataclasses import dataclass, fields

from streams.errors import PipelineError
from streams.spec.declared import check_fields


@dataclass(frozen=True)
class Budget:
    """What may be spent, in the currency of the prices (`DRIFTLOOP_PRICE_...`).

    A retrain over budget is put off until there is money again. Predictions are never refused:
    serving over budget is said, and goes on.
    """

    retrain_per_day: float | None = None
    """For training runs in any 24 hours, the one that is due included; None: as much as they
    cost."""
    serving_per_million: float | None = None
    """For serving a million predictions; None: as much as it costs."""
    per_point: float | None = None
    """What a point (0.01) of the gate's metric is worth. A retrain is skipped where all that the
    last ones may have gained is worth less than its price; every fourth is made all the same."""

    def __post_init__(self) -> None:
        check_fields(self, "policies.budget")
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and not 0 < value < float("inf"):
                raise PipelineError(
                    f"policies.budget.{one.name}", f"{value} is no budget", "give more than 0"
                )

    @property
    def limits_retrains(self) -> bool:
        """Whether a retrain may be put off."""
        return self.retrain_per_day is not None or self.per_point is not None

    @property
    def declared(self) -> bool:
        """Whether anything is limited."""
        return any(getattr(self, one.name) is not None for one in fields(self))
