"""What the time to recover from a fault counts from, and how long it may be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

WORKER_LIMIT = 10.0
"""Seconds from a worker's death to the prediction of an event that was sent after it."""
SERVER_LIMIT = 5.0
"""Seconds from a server's return to the same."""
REFOLD_LIMIT = 30.0
"""Seconds from the loss of all feature state to the same: events and labels are folded again."""
GROWTH_LIMIT = 50.0
"""Seconds from a new partition to the prediction of its first events: clients ask for partitions
each half minute."""


@dataclass(frozen=True)
class Mark:
    """From when on the time to recover counts, and what ends it."""

    what: str
    since: float
    """Seconds since 1970: the worker's death, the server's return."""
    after: float
    """An output of an event sent after this ends it, on every partition."""
    limit: float
    stream: str = "newest"
    """`newest` for predictions, `examples`."""
    partitions: int = 0
    """There must be so many partitions, at least."""


Recovered = Callable[[Mark], Awaitable[None]]
"""Waits for what ends the mark, and notes how long it took."""
