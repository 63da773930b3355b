"""How far a bucket strays without any drift: drawn from the buckets of a training slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.distributions import Floats, Ints
from workers.evaluation.drift import angles, stability_index

RATES = (0.1, 0.03, 0.01, 0.003, 0.001)
"""False alarms a bucket for which levels are drawn."""
LEAST_BUCKETS = 8
"""No level from fewer: what comes round each week would be an alarm."""
_DRAWS, _CHUNK = 20_000, 500
_MOST_ENTITIES = 20_000


class Calibration(NamedTuple):
    """What the training buckets say of how far a bucket strays."""

    spreads: list[Floats]
    """Of each column, the standard deviation of a bucket's angle by edge; empty for too few."""
    usual: list[float]
    """Of each column, the largest stability index of a bucket against the others."""
    levels: dict[float, float]
    """False alarms a bucket -> the level."""


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
        return Calibration([np.empty(0)] * len(by_bucket), [0.0] * len(by_bucket), {})
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
    return Calibration(spreads, [_usual(one) for one in by_bucket], levels)


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


def _usual(counts: Ints) -> float:
    total = counts.sum(axis=0)
    return max(stability_index((total - one).tolist(), one) for one in counts)


def wander(bins: Ints, entities: Ints, edges: int) -> Floats:
    """The variance of the angles of a whole slice, had it other entities, [edges].

    `bins` and `entities` [n], by number. An entity's long windows change more slowly than a slice
    can show; what the slice's buckets have in common for that is seen by drawing entities anew (the
    variance of a ratio over clusters: Cochran, "Sampling Techniques", 1977, ch. 6). It is more than
    what comes about where entities do not change at all.
    """
    kept = min(_MOST_ENTITIES, int(entities.max(initial=0)) + 1)
    chosen = entities < kept
    flat = np.bincount(
        entities[chosen] * (edges + 1) + bins[chosen], minlength=kept * (edges + 1)
    ).reshape(kept, edges + 1)
    below, events = np.cumsum(flat, axis=1)[:, :-1], flat.sum(axis=1)
    total = events.sum()
    share = below.sum(axis=0) / total
    variance = np.square(below - events[:, None] * share).sum(axis=0) / total**2
    variance *= kept / (int(entities.max(initial=0)) + 1)
    found: Floats = variance / np.maximum(4 * share * (1 - share), 1e-9)
    return found
