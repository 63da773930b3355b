"""Quality as figures to draw: cells added up by version and step of event time, with intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.evaluation.totals import Ranking, Total
from streams.spec.tasks import RANKS
from streams.sums import Cell
from workers.evaluation.metrics import metric
from workers.reports.of_values import error_interval, errs

Interval = tuple[float, float]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RANKED = ("average_precision", "roc_auc")
_Z = 1.959964
"""Standard errors of a 95 % interval."""
_RESAMPLES = 100
_BINS = 256
"""Bins that errors are computed from: they need no more, and take less time."""
_MOST_STEPS = 60
"""More buckets of event time than this are joined: more cannot be told apart in a picture."""


@dataclass(frozen=True)
class Point:
    """What is known of a version in a step of event time."""

    version: int
    """0 for the fallback."""
    start: float
    """Event time, seconds since 1970; so is `end`."""
    end: float
    young: bool
    """Whether examples of this step still come, so that its figures are of a part of its events."""
    total: Total

    @property
    def middle(self) -> float:
        """Event time in the middle of the step."""
        return (self.start + self.end) / 2


def of_slice(cells: Iterable[Cell], name: str = "") -> list[Cell]:
    """The cells of a slice that hold events; all events are in the slice without a name."""
    return [cell for cell in cells if cell.slice == name and cell.events > 0]


def by_version(cells: Iterable[Cell]) -> dict[int, list[Cell]]:
    """The cells of each version."""
    groups = defaultdict[int, list[Cell]](list)
    for cell in cells:
        groups[cell.version].append(cell)
    return groups


def points(cells: Sequence[Cell], most: int = _MOST_STEPS) -> list[Point]:
    """What is known of each version in each of at most `most` steps, in their order.

    A step is one bucket, or several where there are more. The newest bucket is young.
    """
    if not cells:
        return []
    first, newest = min(c.start for c in cells), max(c.start for c in cells)
    span = max(cell.span for cell in cells)
    width = span * math.ceil((newest + span - first) / span / most)
    groups = defaultdict[tuple[int, int], list[Cell]](list)
    for cell in cells:
        groups[cell.version, int((cell.start - first) // width)].append(cell)
    return [
        Point(
            version=version,
            start=first + step * width,
            end=first + (step + 1) * width,
            young=newest in {cell.start for cell in found},
            total=Total.of(found),
        )
        for (version, step), found in sorted(groups.items())
    ]


def interval(total: Total, name: str, value: float) -> Interval:
    """The 95 % interval of a measure whose value on these events is given.

    Of average precision and AUC by standard errors from a Poisson bootstrap of the score histogram;
    the mean over classes gets the mean of their standard errors, which is that of classes that err
    together, the most it can be. Of shares it is Wilson's (1927), which is wide enough for the
    measures of a ranking too: nothing in 0..1 varies more than a share. Events count as
    independent. An error of which the sums tell no interval has none: both ends are the value.
    """
    if name in RANKED:
        errors = [_error(one, name) for one in total.rankings.values() if one.mixed]
        wide = _Z * float(np.mean(errors)) if errors else 1.0
        return max(0.0, value - wide), min(1.0, value + wide)
    if errs(name):
        return error_interval(total, name, value, _Z) or (value, value)
    return wilson(value, support(total, name))


def wilson(share: float, events: float) -> Interval:
    """Wilson's 95 % interval of a share of so many events; (0, 1) where there are none."""
    if events <= 0:
        return 0.0, 1.0
    square = _Z**2 / events
    middle = (share + square / 2) / (1 + square)
    wide = _Z * math.sqrt(share * (1 - share) / events + square / (4 * events)) / (1 + square)
    return max(0.0, middle - wide), min(1.0, middle + wide)


def support(total: Total, name: str) -> float:
    """How many events a measure is of; of a mean over classes, of the rarest that has events."""
    if name in RANKS and total.ranks is not None:
        return total.ranks.requests
    sides = {"precision": total.confusion.sum(axis=0), "recall": total.confusion.sum(axis=1)}
    if name not in sides:
        return total.events
    counts = sides[name]
    found = counts[1:] if len(counts) == 2 else counts[counts > 0]
    return float(found.min()) if len(found) else 0.0


def _error(ranking: Ranking, name: str) -> float:
    """Standard error of a ranking metric: each event is drawn a Poisson number of times."""
    bins = np.arange(0, len(ranking.others), -(-len(ranking.others) // _BINS))
    counts = np.add.reduceat([ranking.others, ranking.positives], bins, axis=1).clip(0).reshape(-1)
    scores = np.tile(ranking.scores[bins], 2)
    labels = np.repeat(np.array([0, 1], np.float32), len(bins))
    rows = counts > 0
    draws = np.random.default_rng(0).poisson(counts[rows], (_RESAMPLES, int(rows.sum())))
    found = metric(name, scores[rows], labels[rows])(draws.astype(np.float64))
    found = found[np.isfinite(found)]
    return float(found.std(ddof=1)) if len(found) > 1 else 1.0


@dataclass(frozen=True)
class Reliability:
    """Events by tenths of their score; arrays [tenths with events]."""

    score: Floats
    """Mean score."""
    share: Floats
    """Share of the class."""
    low: Floats
    high: Floats
    """The share's 95 % interval."""


def reliability(ranking: Ranking) -> Reliability:
    """How often a class is met, by tenths of the score that it was given."""
    scores = probability(ranking.scores)
    tenths = np.minimum((scores * 10).astype(int), 9)
    events = np.bincount(tenths, ranking.others + ranking.positives, 10)
    hits = np.bincount(tenths, ranking.positives, 10)
    told = np.bincount(tenths, scores * (ranking.others + ranking.positives), 10)
    rows = events > 0
    events, share = events[rows], hits[rows] / events[rows]
    ends = np.array([wilson(*one) for one in zip(share, events, strict=True)]).reshape(-1, 2)
    return Reliability(told[rows] / events, share, ends[:, 0], ends[:, 1])


@dataclass(frozen=True)
class Curves:
    """Precision-recall and ROC curves of one class; arrays [thresholds], by falling score."""

    recall: Floats
    precision: Floats
    false_alarms: Floats
    """Share of the others that are at or above the threshold."""


def curves(ranking: Ranking, most: int = 150) -> Curves:
    """Both curves of a class that has events and others, with at most so many thresholds."""
    hits, misses = np.cumsum(ranking.positives), np.cumsum(ranking.others)
    rows = hits + misses > 0
    hits, misses = hits[rows], misses[rows]
    # as many thresholds over the positives as over the others: both ends of the curves are drawn
    along = hits / hits[-1] + misses / misses[-1]
    kept = np.unique(np.searchsorted(along, np.linspace(along[0], along[-1], most)))
    hits, misses = hits[kept], misses[kept]
    return Curves(hits / hits[-1], hits / (hits + misses), misses / misses[-1])


def probability(log_odds: Floats) -> Floats:
    """Scores of log-odds."""
    found: Floats = 1.0 / (1.0 + np.exp(-log_odds))
    return found
