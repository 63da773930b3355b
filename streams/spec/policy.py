"""A pipeline's policies, by what they decide: serving, learning, roll-out."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.errors import PipelineError
from streams.spec.learning import Retrain
from streams.spec.rollout import Gate
from streams.spec.serving import Decision, Delivery, Fallback, Invalid

__all__ = ["Decision", "Delivery", "Fallback", "Gate", "Invalid", "Policies", "Retrain"]


@dataclass(frozen=True)
class Policies:
    """How a pipeline is served and kept fresh."""

    delivery: Delivery = "exactly_once"
    fallback: Fallback = field(default_factory=Fallback)
    invalid: Invalid = field(default_factory=Invalid)
    retrain: Retrain = field(default_factory=Retrain)
    gate: Gate = field(default_factory=Gate)
    keep_versions: int = 2
    """Versions kept loaded: the champion and those before it, ready for a rollback."""

    def __post_init__(self) -> None:
        if self.delivery not in ("exactly_once", "at_least_once"):
            raise PipelineError(
                "policies.delivery",
                f"{self.delivery!r} is not known",
                "use exactly_once or at_least_once",
            )
        if self.keep_versions < 2:
            raise PipelineError(
                "policies.keep_versions",
                f"{self.keep_versions} leaves no way back",
                "use 2 or more",
            )
