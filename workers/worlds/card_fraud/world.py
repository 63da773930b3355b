"""What a simulated world is made of: its parameters and its payments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from workers.worlds.card_fraud.draws import Ints

OnProgress = Callable[[float], None]

DAY = 86_400
SEED_STEP = 1_000_003  # between worlds; the seeds of one stay far below it


@dataclass(frozen=True)
class World:
    """How large the world is and which one; the default is the published one."""

    customers: int = 5000
    terminals: int = 10_000
    days: int = 183
    start: date = date(2018, 4, 1)
    radius: float = 5.0
    """How far from home a customer pays, on the grid of 100 x 100."""
    seed: int = 0
    """Which world: 0 is the published one, each from 1 to 4,000 is another throughout."""

    def __post_init__(self) -> None:
        if self.customers < 3 or self.terminals < 2 or self.days < 1:
            raise ValueError("a world needs 3 customers, 2 terminals and a day at least")
        if not 0 <= self.seed <= 4000:
            raise ValueError(f"there is no world {self.seed}: use 0 to 4000")

    def seed_for(self, number: int) -> int:
        """The seed used in this world where the published one uses `number`."""
        return number + self.seed * SEED_STEP


class Payments(NamedTuple):
    """Payments by columns; arrays [payments]."""

    time: Ints  # seconds since the start of the world
    customer: Ints
    terminal: Ints
    cents: Ints
