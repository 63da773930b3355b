"""The model: a network factory or an ONNX file, its tensors, and how Triton is told about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.functions import check_function
from streams.spec.tasks import check_quantiles

INPUT = "features"
OUTPUT = "scores"


@dataclass(frozen=True)
class Model:
    """What is trained and served.

    The network maps float32 [n, features], already normalised, to logits [n, outputs]. Its
    normalisation and its final sigmoid or softmax are part of the exported model, so the vector
    that is served, logged and trained on is the plain one.
    """

    network: Callable[[int], Any] | None = None
    """Factory: number of features -> `torch.nn.Module` that returns logits."""
    onnx: Path | None = None
    """Or a ready ONNX file (`features` [n, f] -> `scores` [n, outputs]), published as it is."""
    outputs: int = 1
    """1 for a probability (binary), k for k class probabilities (softmax). Of a value it follows
    from the quantiles."""
    quantiles: tuple[float, ...] = ()
    """Of a value: quantiles of the label that are predicted beside the point, as `(0.5, 0.95)`. The
    network returns [n, 1 + quantiles], the point first."""
    parameters: Mapping[str, float | int | str] = field(default_factory=dict)
    """Training parameters: learning_rate, batch_size, epochs, patience, weight_decay, seed;
    positive_weight of classes, point_loss of a value (huber, squared or absolute)."""

    def __post_init__(self) -> None:
        check_fields(self, "model")
        if isinstance(self.onnx, str):
            object.__setattr__(self, "onnx", Path(self.onnx))
        if not isinstance(self.onnx, Path | None):
            raise PipelineError(
                "model.onnx", f"{self.onnx!r} is no path", 'write Path("model.onnx")'
            )
        if (self.network is None) == (self.onnx is None):
            raise PipelineError(
                "model",
                "needs a network or an onnx file, not both",
                "give network=factory, or onnx=Path(...)",
            )
        if self.network is not None:
            mend = "pass a function: number of features -> nn.Module"
            if hasattr(type(self.network), "forward"):
                raise PipelineError("model.network", "is a network, and not what builds one", mend)
            check_function(self.network, "model.network", mend)
        if self.outputs < 1:
            raise PipelineError("model.outputs", f"{self.outputs} is not positive", "use 1 or more")
        check_quantiles(self.quantiles)
        if self.quantiles and self.outputs == 1:
            object.__setattr__(self, "outputs", 1 + len(self.quantiles))
        if not isinstance(self.parameters, Mapping):
            raise PipelineError(
                "model.parameters", f"{self.parameters!r} is no mapping", 'write {"epochs": 10}'
            )
        unknown = set(self.parameters) - set(TRAINING_DEFAULTS)
        if unknown:
            raise PipelineError(
                f"model.parameters.{min(unknown, key=str)}",
                "is not known",
                f"use: {', '.join(TRAINING_DEFAULTS)}",
            )
        for name, value in self.parameters.items():
            if complaint := _complaint(name, value):
                raise PipelineError(f"model.parameters.{name}", f"{value!r} cannot be", complaint)

    def training(self) -> dict[str, float | int | str]:
        """Training parameters with defaults filled in."""
        return {**TRAINING_DEFAULTS, **self.parameters}


def _complaint(name: str, value: object) -> str:
    """What a training parameter must be; empty where it is."""
    if name == "positive_weight" and value == "balanced":
        return ""
    if name == "point_loss":
        return "" if value in POINT_LOSSES else f"use {', '.join(POINT_LOSSES)}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = isinstance(TRAINING_DEFAULTS[name], int)
    zero = name in ("weight_decay", "seed")
    if not number or not _possible(float(value), whole, zero):  # type: ignore[arg-type]
        kind = "a whole number" if whole else "a number"
        return f"use {kind}, {'0 or more' if zero else 'above 0'}" + (
            ', or "balanced"' if name == "positive_weight" else ""
        )
    return ""


def _possible(value: float, whole: bool, zero: bool) -> bool:
    least = value > 0 or (zero and value == 0)
    if not whole:
        return least and value < math.inf
    return least and value < _LARGEST and value == int(value)


_LARGEST = float(1 << 63)
"""Of a whole number: torch and numpy count no further."""

POINT_LOSSES = ("huber", "squared", "absolute")
"""How far off a point is: Huber's loss counts errors beyond one standard deviation of the label
linearly, so that a few amounts do not decide every step."""
TRAINING_DEFAULTS: dict[str, float | int | str] = {
    "learning_rate": 1e-3,
    "batch_size": 256,
    "epochs": 20,
    "patience": 4,
    "weight_decay": 0.0,
    "positive_weight": "balanced",
    "point_loss": "huber",
    "seed": 7,
}
