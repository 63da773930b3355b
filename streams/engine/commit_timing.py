"""When a commit begins: in time, by an estimate of how long it takes."""

from __future__ import annotations

from typing import NamedTuple


class Uncommitted(NamedTuple):
    """Work that is not committed yet; times in monotonic seconds."""

    received: float
    """When the oldest record was fetched."""
    begun: float
    """When work on it began."""
    size: int = 0
    """Bytes of its records."""

    def due(self, span: float, takes: float) -> float:
        """When to begin a commit that takes `takes` seconds, to end in the oldest record's span.

        Each commit covers at least half a span of work, however late its records are: fewer
        commits work off a backlog faster.
        """
        return max(self.received + span - takes, self.begun + span / 2)


class DurationEstimate:
    """A time that is rarely exceeded, in seconds: the smoothed mean plus some mean deviations.

    TCP computes its retransmission time-out the same way (RFC 6298, section 2), with four.
    """

    _MEAN, _DEVIATION = 1 / 8, 1 / 4
    _DEVIATIONS = 2

    def __init__(self) -> None:
        self._mean = 0.0
        self._deviation = 0.0

    @property
    def seconds(self) -> float:
        """The estimate; 0 before the first observation."""
        return self._mean + self._DEVIATIONS * self._deviation

    def observe(self, seconds: float) -> None:
        """Take in how long it was this time."""
        if not self._mean:
            self._mean, self._deviation = seconds, seconds / 2
            return
        error = seconds - self._mean
        self._deviation += self._DEVIATION * (abs(error) - self._deviation)
        self._mean += self._MEAN * error
