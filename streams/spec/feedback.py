"""Feedback: what a label is, how late it may come, and what its absence means."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.durations import Duration, seconds


@dataclass(frozen=True)
class Feedback:
    """Labels arrive on `<pipeline>.feedback` and are joined by event id with what was served."""

    horizon: Duration
    """Event time after which an event counts as mature: its label, or its absence, is known."""
    missing: float | None = None
    """Label of an event that got none within the horizon; `None` leaves it out of training."""
    keep: Duration = "0s"
    """How long after the horizon a late or corrected label still finds its event."""
    classes: tuple[str, ...] = ("negative", "positive")
    """Names of the label values 0, 1, ...: a label is an index or a name, or `true` or `false` for
    the first two. Empty for a numeric label, as they are where a value is predicted."""

    def __post_init__(self) -> None:
        check_fields(self, "feedback")
        if self.horizon_seconds < 1:
            raise PipelineError("feedback.horizon", "is zero", "use 1s or more")
        seconds(self.keep, "feedback.keep")
        if self.missing is not None and not math.isfinite(self.missing):
            raise PipelineError(
                "feedback.missing", f"{self.missing} is no label", "use a finite number, or None"
            )

    @property
    def horizon_seconds(self) -> int:
        """Event-time seconds until an event is mature."""
        return seconds(self.horizon, "feedback.horizon")

    @property
    def keep_seconds(self) -> int:
        """Event-time seconds, from the event, for which a label can still be joined."""
        return self.horizon_seconds + seconds(self.keep, "feedback.keep")
