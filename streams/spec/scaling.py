"""How many workers a pipeline gets: as many as its load asks for, within bounds."""

from __future__ import annotations

from dataclasses import dataclass

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.durations import Duration, seconds


@dataclass(frozen=True)
class Scale:
    """How many workers of a kind (scoring, labelling ...) `driftloop up --workers auto` runs.

    So many that they would be busy for `use` of their time with what arrives and with what waits,
    were that to be done within `catch_up`; never more than there are partitions.
    """

    min: int = 1
    """Fewest scoring workers. With 0 all go where nothing arrives, and the model is unloaded."""
    max: int = 8
    """Most workers of a kind."""
    catch_up: Duration = "60s"
    """Time in which records that wait are to be worked off."""
    use: float = 0.7
    """Share of a worker's time that is to be used; the rest is for what comes unforeseen."""
    idle: Duration = "10m"
    """A worker goes once fewer would have been enough all this time."""

    def __post_init__(self) -> None:
        check_fields(self, "policies.scale")
        if self.min < 0:
            raise PipelineError("policies.scale.min", f"{self.min} is no number", "use 0 or more")
        if self.max < max(1, self.min):
            raise PipelineError(
                "policies.scale.max", f"{self.max} is below {max(1, self.min)}", "use min or more"
            )
        if not 0.0 < self.use <= 1.0:
            raise PipelineError(
                "policies.scale.use", f"{self.use} is not a share", "use a number above 0, up to 1"
            )
        for name in ("catch_up", "idle"):
            if getattr(self, f"{name}_seconds") < 1:
                raise PipelineError(f"policies.scale.{name}", "is zero", "use 1s or more")

    @property
    def catch_up_seconds(self) -> int:
        """Seconds in which a backlog is to be gone."""
        return seconds(self.catch_up, "policies.scale.catch_up")

    @property
    def idle_seconds(self) -> int:
        """Seconds after which a worker that is not needed goes."""
        return seconds(self.idle, "policies.scale.idle")
