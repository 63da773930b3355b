"""Estimates how long a commit takes, so that it begins in time."""

from __future__ import annotations


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
