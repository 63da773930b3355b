"""Whether what was served in a bucket is distributed as where the version was trained.

The angle of a share p is asin(sqrt(p)): its variance hardly depends on p (Anscombe, "The
transformation of Poisson, binomial and negative-binomial data", 1948). A column's shift at an edge
of its bins is the angle of the share below that edge, live less reference, over its standard
deviation as a new bucket's. That deviation comes from the buckets of the training slice: the events
of a bucket resemble one another, so that one multinomial for all would alarm every day.

An alarm is a shift, of any column at any edge, above a level that the largest of them all exceeds
in a declared share of buckets without drift. `calibrate` draws that level from the training
buckets. A shift that is proven and small is no alarm: the population stability index (Siddiqi,
"Credit Risk Scorecards", 2006) says how large it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.distributions import Distribution, Floats, Ints, Reference, ReferenceColumn
from streams.spec import Drift

RATES = (0.1, 0.03, 0.01, 0.003, 0.001)
"""False alarms a bucket for which levels are drawn."""
LEAST_BUCKETS = 8
"""No level from fewer: what comes round each week would be an alarm."""
_DRAWS, _CHUNK = 20_000, 500


class ColumnDrift(NamedTuple):
    """How far one column is from its reference."""

    column: str
    shift: float
    """The largest at any edge; NaN without enough buckets to know."""
    psi: float
    """Population stability index."""
    before: float
    """The reference's mean."""
    after: float
    outside: float
    """Share of values outside the reference's range."""
    missing: float
    """Share of events in the bin of what stands for a missing value; NaN without such."""
    alarm: bool


class BucketDrift(NamedTuple):
    """What a version served in a bucket, beside its reference."""

    events: int
    level: float
    """What a shift has to exceed to be an alarm; NaN where none is known."""
    columns: list[ColumnDrift]
    """Those that moved most come first."""

    @property
    def alarms(self) -> list[ColumnDrift]:
        """The columns that drifted."""
        return [one for one in self.columns if one.alarm]

    @property
    def ratio(self) -> float:
        """The largest shift over the level; NaN where none is known."""
        shifts = [one.shift for one in self.columns if math.isfinite(one.shift)]
        return max(shifts) / self.level if shifts else math.nan


def judge(reference: Reference, live: Distribution, policy: Drift) -> BucketDrift:
    """A bucket, its partitions added up, against its version's reference."""
    level = level_at(reference.levels, policy.rate)
    found = []
    for number, (name, column) in enumerate(reference.columns.items()):
        counts = np.array(live.counts[number], np.int64)
        shift, psi = _shift(reference, column, counts), stability_index(column.counts, counts)
        found.append(
            ColumnDrift(
                column=name,
                shift=shift,
                psi=psi,
                before=column.mean,
                after=live.sums[number] / live.events,
                outside=live.outside[number] / live.events,
                missing=_missing(column, counts),
                alarm=shift > level and psi >= policy.least,
            )
        )
    moved = sorted(found, key=lambda one: (-one.alarm, -np.nan_to_num(one.shift), -one.psi))
    return BucketDrift(live.events, level, moved)


def angles(counts: Ints) -> Floats:
    """Of counts [..., bins], the angle of the share below each edge, [..., bins - 1]."""
    below = np.cumsum(counts, axis=-1)
    shares = below[..., :-1] / np.maximum(1, below[..., -1:])
    found: Floats = np.arcsin(np.sqrt(shares))
    return found


def stability_index(reference: Sequence[int], counts: Ints) -> float:
    """The population stability index of two histograms: the sum of (q - p) ln(q / p).

    Half an event is added to each bin, so that an empty one is not infinitely unlikely.
    """
    p = (np.array(reference) + 0.5) / (sum(reference) + 0.5 * len(counts))
    q = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return float(np.sum((q - p) * np.log(q / p)))


def level_at(levels: Mapping[float, float], rate: float) -> float:
    """The level of a rate, between those that were drawn; NaN where none was."""
    if not levels:
        return math.nan
    rates = sorted(levels)
    return float(np.interp(math.log(rate), np.log(rates), [levels[one] for one in rates]))


class Calibration(NamedTuple):
    """What the training buckets say of how far a bucket strays."""

    spreads: list[Floats]
    """Of each column, by edge."""
    levels: dict[float, float]


def calibrate(by_bucket: Sequence[Ints], seed: int) -> Calibration:
    """Spreads and levels from counts [buckets, bins] of each column, in whole buckets.

    A level is the larger of two. First, of the largest |t| of a multivariate t, drawn with the
    buckets' own correlations by weighing their residuals at random (the multiplier bootstrap of
    Chernozhukov, Chetverikov & Kato, Annals of Statistics 2013): few buckets make its tails heavy.
    Second, of what each bucket would have been against the others, the order statistic that bounds
    the rate whatever the distribution (conformal prediction, Vovk et al., 2005), or the largest.
    Both take buckets as exchangeable.
    """
    number = len(by_bucket[0]) if by_bucket else 0
    if number < LEAST_BUCKETS:
        return Calibration([np.empty(0) for _ in by_bucket], {})
    events = by_bucket[0].sum(axis=1)
    floor = _floor(float(events.mean()))
    every = [angles(counts) for counts in by_bucket]
    spreads = [np.maximum(one.std(axis=0, ddof=1), floor) for one in every]
    left_out = np.sort(_left_out(by_bucket, every, events))
    random = np.random.default_rng(seed)
    drawn = _drawn(np.hstack(every), np.concatenate(spreads), random)
    levels = {}
    for rate in RATES:
        place = min(number, math.ceil((number + 1) * (1 - rate))) - 1
        levels[rate] = max(float(np.quantile(drawn, 1 - rate)), float(left_out[place]))
    return Calibration(spreads, levels)


def _shift(reference: Reference, column: ReferenceColumn, counts: Ints) -> float:
    if not column.spread:
        return math.nan
    away = np.abs(angles(counts) - angles(np.array(column.counts)))
    spread = np.array(column.spread)
    few = max(1.0, reference.events / max(1, counts.sum()))
    return float(np.max(away / (spread * math.sqrt((1 + 1 / column.buckets) * few)), initial=0.0))


def _missing(column: ReferenceColumn, counts: Ints) -> float:
    if column.filled is None:
        return math.nan
    place = int(np.searchsorted(np.array(column.edges, np.float32), np.float32(column.filled)))
    return float(counts[place] / max(1, counts.sum()))


def _floor(events: float) -> float:
    """The standard deviation of an angle where events are independent."""
    return 0.5 / math.sqrt(max(1.0, events))


def _left_out(by_bucket: Sequence[Ints], every: Sequence[Floats], events: Ints) -> Floats:
    """The largest shift of each bucket against all the others, [buckets]."""
    number = len(events)
    largest = np.zeros(number)
    for counts, found in zip(by_bucket, every, strict=True):
        others = angles(counts.sum(axis=0) - counts)
        total, squares = found.sum(axis=0), np.square(found).sum(axis=0)
        mean = (total - found) / (number - 1)
        left = squares - np.square(found) - (number - 1) * np.square(mean)
        spread = np.sqrt(np.maximum(left, 0.0) / (number - 2))
        few = np.maximum(1.0, (events.sum() - events) / (number - 1) / np.maximum(1, events))
        spread = np.maximum(spread, _floor(float(events.mean())))
        scale = spread * np.sqrt((1 + 1 / (number - 1)) * few)[:, None]
        largest = np.maximum(largest, (np.abs(found - others) / scale).max(axis=1, initial=0.0))
    return largest


def _drawn(every: Floats, spreads: Floats, random: np.random.Generator) -> Floats:
    """Draws of the largest |t| of all columns and edges."""
    number = len(every)
    residuals = (every - every.mean(axis=0)) / spreads / math.sqrt(number - 1)
    rest = np.sqrt(np.maximum(0.0, 1 - np.square(residuals).sum(axis=0)))
    found = list[NDArray[np.float64]]()
    for _ in range(0, _DRAWS, _CHUNK):
        normal = random.normal(size=(_CHUNK, number)) @ residuals
        normal += rest * random.normal(size=normal.shape)
        found.append(np.abs(normal).max(axis=1, initial=0.0))
    scale = np.sqrt(random.chisquare(number - 1, _DRAWS) / (number - 1))
    return np.concatenate(found) / scale
