"""What the demo is to do, and what is known of it while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from workers.demo.measures import Memory
from workers.demo.mistake import Mistake
from workers.demo.observer import Seen
from workers.demo.source import SLOTS_PER_DAY, Feeder
from workers.worlds.card_fraud import World


@dataclass(frozen=True)
class Plan:
    """What to stream, and how fast."""

    days: int
    minutes: float
    report: Path

    @property
    def seconds_per_slot(self) -> float:
        """Wall-clock seconds for a quarter of a day of events."""
        return self.minutes * 60 / (self.days * SLOTS_PER_DAY)


@dataclass
class Watched:
    """What is shown while it runs, and kept for the report."""

    publisher: Feeder
    seen: Seen
    mistake: Mistake
    memory: Memory = field(default_factory=Memory)
    rates: list[tuple[float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    failed: int = 0
    """Inference requests that failed."""


def world_start() -> float:
    """The world's day 0, seconds since 1970."""
    return datetime.combine(World().start, datetime.min.time(), UTC).timestamp()


def table(title: str, rows: list[tuple[str, str]]) -> Table:
    """Rows of names and values, for the terminal."""
    found = Table(title=title, show_header=False, title_justify="left")
    for row in rows:
        found.add_row(*row)
    return found
