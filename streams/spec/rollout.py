"""How a candidate comes to serve: the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn

from streams.errors import PipelineError
from streams.spec.declared import check_fields


@dataclass(frozen=True)
class Gate:
    """When a candidate may replace the champion, on the same later window."""

    metric: Literal["average_precision", "roc_auc", "accuracy"] = "average_precision"
    """What candidate and champion are compared by; of several classes `roc_auc` is the mean over
    the classes, each against the rest."""
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
    where the threshold is chosen: inconclusive."""
    floor: float = 0.0
    """What every version's metric must be proven to be above, beside chance (prevalence, 0.5, or
    the majority's share)."""
    alerts: float = 3.0
    """The candidate's alerts may be this many times the champion's, or that part of them."""
    calibration: float = 2.0
    """The candidate's mean score may be this many times the share of positives, or that part."""
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
