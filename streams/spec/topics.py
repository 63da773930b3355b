"""Names of a pipeline's topics."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass(frozen=True)
class Topics:
    """The topics of a pipeline."""

    name: str

    def __post_init__(self) -> None:
        for topic in fields(self):
            if not topic.init:
                object.__setattr__(self, topic.name, f"{self.name}.{topic.name}")

    events: str = field(init=False)
    feedback: str = field(init=False)
    predictions: str = field(init=False)
    scored: str = field(init=False)
    examples: str = field(init=False)
    metrics: str = field(init=False)
    drift: str = field(init=False)
    shadow: str = field(init=False)
    models: str = field(init=False)
    costs: str = field(init=False)

    @property
    def dead_letters(self) -> str:
        """Bad records with their cause."""
        return f"{self.name}.dead-letters"

    @property
    def single(self) -> tuple[str, ...]:
        """Topics of one partition."""
        return (self.models, self.costs)

    @property
    def partitioned(self) -> tuple[str, ...]:
        """Topics that share the events' partitioning."""
        return (
            self.events,
            self.feedback,
            self.predictions,
            self.scored,
            self.examples,
            self.metrics,
            self.drift,
            self.shadow,
            self.dead_letters,
        )
