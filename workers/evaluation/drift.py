"""Whether what was served in a bucket is distributed as where the version was trained.

The angle of a share p is asin(sqrt(p)): its variance hardly depends on p (Anscombe, "The
transformation of Poisson, binomial and negative-binomial data", 1948). A column's shift at an edge
of its bins is the angle of the share below that edge, live less reference, over its standard
deviation as a new bucket's. That deviation comes from the buckets of the training slice: the events
of a bucket resemble one another, so that one multinomial for all would alarm every day.

An alarm is a shift, of any column at any edge, above a level that the largest of them all exceeds
in a declared share of buckets without drift. `workers/evaluation/calibration.py` draws that level
from the training buckets. A shift that is proven and small is no alarm: the population stability
index (Siddiqi, "Credit Risk Scorecards", 2006) says how large it is, beyond what training buckets
have among themselves, since few events alone make it large (Yurdakul & Naranjo, Journal of Risk
Model Validation 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from streams.distributions import Distribution, Floats, Ints, Reference, ReferenceColumn
from streams.spec import Drift


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
    found, events = [], max(1, sum(live.counts[0]))
    for number, (name, column) in enumerate(reference.columns.items()):
        counts = np.array(live.counts[number], np.int64)
        shift, psi = _shift(reference, column, counts), stability_index(column.counts, counts)
        found.append(
            ColumnDrift(
                column=name,
                shift=shift,
                psi=psi,
                before=column.mean,
                after=live.sums[number] / events,
                outside=live.outside[number] / events,
                missing=_missing(column, counts),
                alarm=shift > level and psi >= column.usual + policy.least,
            )
        )
    moved = sorted(found, key=lambda one: (-one.alarm, -np.nan_to_num(one.shift), -one.psi))
    return BucketDrift(level, moved)


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


def _shift(reference: Reference, column: ReferenceColumn, counts: Ints) -> float:
    if not column.spread:
        return math.nan
    away = np.abs(angles(counts) - angles(np.array(column.counts)))
    few = max(1.0, reference.events / max(1, counts.sum()))
    return float(np.max(away / np.array(column.spread), initial=0.0) / math.sqrt(few))


def _missing(column: ReferenceColumn, counts: Ints) -> float:
    if column.filled is None:
        return math.nan
    place = int(np.searchsorted(np.array(column.edges, np.float32), np.float32(column.filled)))
    return float(counts[place] / max(1, counts.sum()))
