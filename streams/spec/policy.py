"""A pipeline's policies, by what they decide: serving, learning, roll-out, scaling."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.errors import PipelineError
from streams.spec.budget import Budget
from streams.spec.declared import check_fields
from streams.spec.drift import Drift
from streams.spec.evaluation import Evaluate
from streams.spec.infer import Batching, Infer
from streams.spec.learning import Retrain
from streams.spec.rollout import Gate, RollOut
from streams.spec.scaling import Scale
from streams.spec.serving import Decision, Delivery, Fallback, Invalid

__all__ = [
    "Batching",
    "Budget",
    "Decision",
    "Delivery",
    "Drift",
    "Evaluate",
    "Fallback",
    "Gate",
    "Infer",
    "Invalid",
    "Policies",
    "Retrain",
    "RollOut",
    "Scale",
]

_PARTS = {
    "fallback": Fallback,
    "invalid": Invalid,
    "retrain": Retrain,
    "gate": Gate,
    "evaluate": Evaluate,
    "drift": Drift,
    "rollout": RollOut,
    "budget": Budget,
    "scale": Scale,
    "infer": Infer,
}


@dataclass(frozen=True)
class Policies:
    """How a pipeline is served and kept fresh."""

    delivery: Delivery = "exactly_once"
    """`exactly_once` by transactions, or `at_least_once`: sooner seen, and after a crash perhaps
    twice."""
    fallback: Fallback = field(default_factory=Fallback)
    """What is served while no model answers."""
    invalid: Invalid = field(default_factory=Invalid)
    """When so many records are bad that the worker stops."""
    retrain: Retrain = field(default_factory=Retrain)
    """When a candidate is made, and from what."""
    gate: Gate = field(default_factory=Gate)
    """When a candidate replaces the champion."""
    evaluate: Evaluate = field(default_factory=Evaluate)
    """How the quality of what was served is measured."""
    drift: Drift = field(default_factory=Drift)
    """When what is served has drifted from what a version was trained on."""
    rollout: RollOut = field(default_factory=RollOut.at_once)
    """How a candidate that the gate lets through replaces it: at once, or by degrees."""
    budget: Budget = field(default_factory=Budget)
    """What retraining and serving may cost."""
    scale: Scale = field(default_factory=Scale)
    """How many workers `driftloop up --workers auto` runs."""
    infer: Infer = field(default_factory=Infer)
    """How Triton runs the model."""
    keep_versions: int = 2
    """Versions kept loaded: the champion and those before it, ready for a rollback."""

    def said(self) -> dict[str, str]:
        """Each setting as it is written, by its name."""
        found: dict[str, str] = {}
        for name, value in vars(self).items():
            parts = vars(value) if name in _PARTS else {"": value}
            found |= {f"policies.{name}.{part}".rstrip("."): repr(v) for part, v in parts.items()}
        return found

    def __post_init__(self) -> None:
        check_fields(self, "policies")
        for name, expected in _PARTS.items():
            if not isinstance(value := getattr(self, name), expected):
                raise PipelineError(
                    f"policies.{name}",
                    f"{value!r} is no {expected.__name__}",
                    f"write {expected.__name__}(...)",
                )
        if self.keep_versions < 2:
            raise PipelineError(
                "policies.keep_versions",
                f"{self.keep_versions} leaves no way back",
                "use 2 or more",
            )
