"""What retraining has gained, as the gate measured it, and what the next may gain. Pure.

A gain is in points: hundredths of the gate's metric.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from streams.ledger.state import LedgerState

POINT = 0.01
_LAST = 5
_T_95 = 2.132
"""95 % quantile of Student's t with 4 degrees of freedom."""


@dataclass(frozen=True)
class MeasuredGain:
    """What a candidate gained over the champion that it was compared with."""

    version: int
    points: float
    error: float
    """Standard error of the points."""
    published: bool
    """It has become champion, and was not taken back."""


def gains(now: LedgerState) -> list[MeasuredGain]:
    """Of every candidate that was compared with a champion, the oldest first."""
    found = []
    for version in sorted(now.versions):
        metrics = now.versions[version].metrics
        points, error = (metrics.get(name, math.nan) / POINT for name in ("gain", "gain_se"))
        if math.isfinite(points) and math.isfinite(error):
            serves = version in now.promoted and version not in now.rolled_back
            found.append(MeasuredGain(version, points, error, serves))
    return found


def gained(found: Sequence[MeasuredGain]) -> float:
    """Points that the published ones gained together.

    Each is measured on the champion's and its own later slice, once. Those that were let through
    are those that did well there: the sum errs upwards.
    """
    return sum(one.points for one in found if one.published)


def most_expected(found: Sequence[MeasuredGain]) -> float:
    """What the next may gain at most, in points: the upper end of a one-sided 95 % interval.

    Of the mean of the last five, by Student's t; one that was not published gained nothing,
    whatever it measured. The error of the mean is that of the five values or that of their
    measurements, whichever is larger: five alike prove little. Infinite while fewer are known.
    """
    recent = found[-_LAST:]
    if len(recent) < _LAST:
        return math.inf
    values = [one.points if one.published else 0.0 for one in recent]
    spread = statistics.stdev(values) / math.sqrt(_LAST)
    measured = math.sqrt(sum(one.error**2 for one in recent)) / _LAST
    return statistics.fmean(values) + _T_95 * max(spread, measured)
