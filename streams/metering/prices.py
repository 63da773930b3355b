"""What usage costs: hours times prices. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from streams.metering.account import Usage
from streams.settings import Settings

TRAINING = "training"
"""The role of a training run."""
_HOUR = 3600.0
HOURS_OF_MONTH = 730.0
"""By which clouds turn a price per month into one per hour: 8,760 hours / 12."""


@dataclass(frozen=True)
class Rates:
    """Prices per hour, in the currency of the settings."""

    cpu: float
    gib: float
    gpu: float

    def of(self, usage: Usage) -> float:
        """What it costs: what was used or what was reserved, whichever is more."""
        hours = usage.seconds / _HOUR
        return (
            self.cpu * max(usage.cpu_seconds / _HOUR, usage.cpus * hours)
            + self.gib * max(usage.gib_hours, usage.gib * hours)
            + self.gpu * usage.gpu_seconds / _HOUR
        )


@dataclass(frozen=True)
class Prices:
    """What is paid; nothing where all are 0."""

    standing: Rates
    """For what runs all the time."""
    training: Rates
    """For training runs."""
    kept_gib_hour: float
    """For a GiB that topics keep."""
    currency: str

    @classmethod
    def of_settings(cls, given: Settings) -> Prices:
        """Those of the settings; training costs what all else costs, where no price is given."""
        standing = Rates(given.price_cpu_hour, given.price_gib_hour, given.price_gpu_hour)
        asked = (
            given.price_training_cpu_hour,
            given.price_training_gib_hour,
            given.price_training_gpu_hour,
        )
        usual = (standing.cpu, standing.gib, standing.gpu)
        training = Rates(*(u if a is None else a for a, u in zip(asked, usual, strict=True)))
        return cls(standing, training, given.price_kept_gib_month / HOURS_OF_MONTH, given.currency)

    @property
    def given(self) -> bool:
        """Whether CPU, memory or a GPU has a price."""
        return any(
            (one.cpu, one.gib, one.gpu) != (0.0, 0.0, 0.0) for one in (self.standing, self.training)
        )

    def cost(self, usage: Usage) -> float:
        """What a process has cost on a day."""
        return (self.training if usage.role == TRAINING else self.standing).of(usage)
