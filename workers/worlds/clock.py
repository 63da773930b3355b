"""Times for data that have none: so many events a minute, with seeded gaps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BEGINS = 1_704_067_200.0
"""2024-01-01, UTC."""


def ticks(per_minute: float, seed: int) -> Iterator[float]:
    """Times of events that come independently of each other, to the millisecond; without end."""
    draws, at = np.random.default_rng(seed), BEGINS
    while True:
        for gap in draws.exponential(60 / per_minute, 1000).tolist():
            at += gap
            yield round(at, 3)
