"""Times as producers write them, read to seconds since 1970 (UTC).

A number is told to be seconds, milliseconds, micro- or nanoseconds by its size: for times from 1974
to the year 5000 the four have no number in common. Before 1974 a number is taken for seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streams.spec.durations import text

LATEST = float(2**32 - 1)
"""The latest time that can be kept: 2106-02-07, since feature state keeps 32-bit seconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""From this size on, a number has so many to a second; the largest first."""


def epoch(times: Sequence[Any]) -> NDArray[np.float64]:
    """Seconds since 1970 (UTC) of datetimes (naive ones are UTC) or numbers. Shape [n].

    A number too large for any unit gives infinity.
    """
    if times and isinstance(times[0], datetime):
        origin = _EPOCH.replace(tzinfo=None) if times[0].tzinfo is None else _EPOCH
        try:
            return np.array([(at - origin).total_seconds() for at in times])
        except TypeError:  # some name a zone, others none
            return epoch([at.replace(tzinfo=at.tzinfo or UTC) for at in times])
    found = numbers(times)
    size = np.abs(found)
    if len(found) and not size.max() < _UNITS[-1][0]:
        for least, per_second in _UNITS:
            found = np.where(size >= least, found / per_second, found)
            size = np.where(size >= least, 0.0, size)
    return found


def parse(at: str | float) -> float:
    """Seconds since 1970 of ISO 8601 text (UTC where it names no zone), or of a number.

    Raises:
        ValueError: it is no time.
    """
    if isinstance(at, str) and at[4:5] == "-":  # the usual case, without an error on the way
        with suppress(ValueError):
            return _since_epoch(datetime.fromisoformat(at))
    try:
        number = float(at)  # a number may be written as text
    except ValueError:
        return _since_epoch(datetime.fromisoformat(str(at)))
    except OverflowError:
        return math.inf
    size = abs(number)
    return next((number / per_second for least, per_second in _UNITS if size >= least), number)


class TimeRange:
    """The times that a record may bear: from `earliest` to `ahead` seconds after it was written.

    Where nobody knows when it was written, to the latest time that can be kept.
    """

    def __init__(self, earliest: datetime, ahead: int) -> None:
        """`earliest` is UTC where it names no zone."""
        self._earliest = earliest.replace(tzinfo=earliest.tzinfo or UTC).timestamp()
        self._ahead = ahead

    def outside(self, times: ArrayLike, written: ArrayLike) -> dict[int, str]:
        """By row those of the times [n] that are out of range, with what is wrong with them.

        `written` [n] is when the records were written; all in seconds since 1970, 0 for unknown.
        """
        at, since = np.asarray(times, np.float64), np.asarray(written, np.float64)
        latest = np.where(since > 0, np.minimum(since + self._ahead, LATEST), LATEST)
        rows = np.flatnonzero(~((at >= self._earliest) & (at <= latest))).tolist()
        return {row: self._complaint(float(at[row]), float(latest[row])) for row in rows}

    def complaint(self, at: float, written: float) -> str:
        """As `outside`, of one time; empty where it is in range."""
        latest = min(written + self._ahead, LATEST) if written > 0 else LATEST
        return "" if self._earliest <= at <= latest else self._complaint(at, latest)

    def _complaint(self, at: float, latest: float) -> str:
        until = readable(latest)
        if latest < LATEST:
            until += f", {text(self._ahead)} after the record was written"
        return f"{readable(at)} is out of range, which is {readable(self._earliest)} to {until}"


def _since_epoch(at: datetime) -> float:
    zoned = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return (zoned - _EPOCH).total_seconds()


def numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """Float64 [n] of numbers: infinity for a whole number that is too large, NaN for None."""
    try:
        return np.array(values, np.float64)
    except OverflowError:
        return np.array([_number(value) for value in values], np.float64)


def readable(at: float) -> str:
    """A time as people read it; the number where it is no date."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return repr(float(at))


def _number(value: Any) -> float:
    try:
        return float("nan") if value is None else float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
