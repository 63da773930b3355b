"""What a pipeline's model predicts, and what that means to every other part: asked here alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from streams.errors import PipelineError

TaskName = Literal["binary", "multiclass", "value", "ranking"]

MetricName = Literal[
    "average_precision",
    "roc_auc",
    "accuracy",
    "wape",
    "mae",
    "rmse",
    "pinball",
    "ndcg",
    "mrr",
    "hit_rate",
]

_OF_CLASSES: tuple[MetricName, ...] = ("average_precision", "roc_auc", "accuracy")
_METRICS: dict[str, tuple[MetricName, ...]] = {
    "binary": _OF_CLASSES,
    "multiclass": _OF_CLASSES,
    "value": ("wape", "mae", "rmse", "pinball"),
    "ranking": ("ndcg", "mrr", "hit_rate"),
}
ERRORS = frozenset(_METRICS["value"])
"""Metrics that are better where they are lower."""
RANKS = frozenset(_METRICS["ranking"])
"""Metrics of an order."""


@dataclass(frozen=True)
class Task:
    """What is predicted: one class of two, one of several, a number, or an order of candidates.

    A value's scores are its point and then its quantiles, in the label's own unit. Those of a
    ranking are one for each candidate, and so are its labels. Both have no classes, so there is no
    threshold and no decision.
    """

    name: TaskName
    outputs: int
    """Numbers that the model gives for an event."""
    quantiles: tuple[float, ...] = ()
    """Of a value: those that are predicted beside the point, rising."""
    top: int = 0
    """Of a ranking: how many of the first places count."""

    @classmethod
    def of(cls, declared: TaskName | None, outputs: int, quantiles: tuple[float, ...]) -> Task:
        """The task of a pipeline whose model gives so many numbers.

        Raises:
            PipelineError: it is not known, or the model's outputs are not the task's.
        """
        if declared is not None and declared not in tuple(_METRICS):
            known = ", ".join(_METRICS)
            raise PipelineError("task", f"{declared!r} is not known", f"use one of: {known}")
        name = declared or ("binary" if outputs == 1 or quantiles else "multiclass")
        if quantiles and name != "value":
            raise PipelineError(
                "model.quantiles", f"are of a number, and the task is {name}", 'write task="value"'
            )
        if name == "multiclass" and outputs == 1:
            raise PipelineError(
                "model.outputs", "is 1, and the task is multiclass", "use one for each class"
            )
        if name in ("binary", "value") and outputs != 1 + len(quantiles):
            raise PipelineError(
                "model.outputs",
                f"is {outputs}, and the task is {name}",
                "leave it out" + (", and name quantiles" if name == "value" else ""),
            )
        return cls(name, outputs, quantiles)

    def __str__(self) -> str:
        shown = ", ".join(f"{one:g}" for one in self.quantiles)
        if self.name == "multiclass":
            return f"one of {self.outputs} classes"
        if self.ranks:
            return f"the order of up to {self.outputs} candidates"
        one = "one of 2 classes" if self.classes else "a number"
        return f"{one} and its quantiles {shown}" if shown else one

    @property
    def classes(self) -> int:
        """How many classes a label may be of; 0 where it is a number."""
        return {"binary": 2, "multiclass": self.outputs}.get(self.name, 0)

    @property
    def numeric(self) -> bool:
        """Whether a label is a number in a unit of its own, and so is a score."""
        return self.name == "value"

    @property
    def ranks(self) -> bool:
        """Whether an event has a label and a score for each of its candidates."""
        return self.name == "ranking"

    @property
    def thresholds(self) -> bool:
        """Whether a score is held against a threshold."""
        return self.name == "binary"

    @property
    def metrics(self) -> tuple[MetricName, ...]:
        """What versions can be compared by, the usual one first."""
        return tuple(one for one in _METRICS[self.name] if one != "pinball" or self.quantiles)

    def trains_with(self, parameter: str) -> bool:
        """Whether a training parameter means anything to it."""
        meant = {"positive_weight": self.classes > 0, "point_loss": self.numeric}
        return meant.get(parameter, True)

    def is_label(self, label: float | Sequence[float]) -> bool:
        """Whether this can be a label."""
        if self.ranks:
            return self._are_each(label, math.inf)
        if isinstance(label, Sequence):
            return False
        return label in range(self.classes) if self.classes else math.isfinite(label)

    def is_score(self, score: float | Sequence[float]) -> bool:
        """Whether this can be what the model says of an event."""
        if self.ranks:
            return self._are_each(score, 1.0)
        scores = score if isinstance(score, Sequence) else [score]
        low, high = (0.0, 1.0) if self.classes else (-math.inf, math.inf)
        return len(scores) == self.outputs and all(
            low <= one <= high and math.isfinite(one) for one in scores
        )

    def _are_each(self, found: float | Sequence[float], high: float) -> bool:
        """Whether these are one for each candidate, from 0 up to `high`."""
        several = isinstance(found, Sequence) and 0 < len(found) <= self.outputs
        return several and all(0.0 <= one <= high and one < math.inf for one in found)  # type: ignore[union-attr]


BINARY = Task("binary", 1)


def check_quantiles(quantiles: tuple[float, ...]) -> None:
    """Raise a `PipelineError` unless quantiles rise between 0 and 1."""
    if not all(before < after for before, after in pairwise((0.0, *quantiles, 1.0))):
        raise PipelineError(
            "model.quantiles", f"{quantiles} does not rise between 0 and 1", "write (0.5, 0.95)"
        )
