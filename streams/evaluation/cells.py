"""Sums of examples that quality is computed from: pure, and the same in whatever order they come.

An example that replaces an earlier one is counted with its label, and once less with the label
before: so cells are restated when labels change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.evaluation.errors import count_errors
from streams.evaluation.ranks import count_ranks, ranks
from streams.spec.tasks import Task
from streams.sums import Cell, ErrorSums, Histogram, RankSums

TENTHS = 10
_LEAST = 1e-12
STEPS = 4096
"""Places of a log-odds unit."""
_LARGEST = 16
"""The largest log-odds that are told apart."""
_LEVELS = 9
"""The widest bin has 2**9 places."""
_BINS = 1024
"""Most bins of a histogram."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Counted(NamedTuple):
    """Examples as arrays of n: each is counted `weights` times, which may be -1."""

    labels: Floats
    """Class indices, or numbers; of a ranking [n, most], NaN where there is no candidate."""
    scores: Floats
    """[n, outputs]"""
    decisions: Ints
    weights: Ints
    keys: Sequence[str]
    fed_back: Ints
    """1 where the label came as feedback, else 0."""
    delays: Floats
    """Seconds from such an event to its label; 0 for the others."""

    def select(self, rows: NDArray[np.int64]) -> Counted:
        """Those at these places."""
        keys = self.keys
        return Counted(
            self.labels[rows],
            self.scores[rows],
            self.decisions[rows],
            self.weights[rows],
            [keys[row] for row in rows.tolist()],
            self.fed_back[rows],
            self.delays[rows],
        )


def add(cell: Cell, examples: Counted, task: Task, top: int) -> None:
    """Count examples into a cell; of the keys, the `top` with the highest scores are kept."""
    weights = examples.weights
    cell.events += int(weights.sum())
    cell.fed_back += int(examples.fed_back @ weights)
    cell.delay += float(examples.delays @ weights)
    if task.ranks:
        cell.ranks = cell.ranks or RankSums()
        count_ranks(cell.ranks, ranks(examples.scores, examples.labels, task.top), weights)
        return
    if task.classes:
        _add_classes(cell, examples, task.classes, top)
        return
    cell.errors = cell.errors or ErrorSums()
    count_errors(cell.errors, examples.scores, examples.labels, weights, task.quantiles)
    cell.squared_error += float(np.square(examples.scores[:, 0] - examples.labels) @ weights)


def _add_classes(cell: Cell, examples: Counted, classes: int, top: int) -> None:
    labels, scores, weights = examples.labels.astype(np.int64), examples.scores, examples.weights
    confusion = np.array(cell.confusion or np.zeros((classes, classes)), np.int64)
    np.add.at(confusion, (labels, examples.decisions), weights)
    cell.confusion = confusion.tolist()
    probabilities = _by_class(scores)
    told = np.clip(probabilities[np.arange(len(labels)), labels], _LEAST, 1.0)
    cell.log_loss -= float(np.log(told) @ weights)
    cell.squared_error += float(_squared(scores, labels) @ weights)
    for one in range(classes) if scores.shape[1] > 1 else (1,):
        _count_bins(
            cell.histograms.setdefault(one, Histogram()),
            probabilities[:, one],
            labels == one,
            weights,
        )
    if scores.shape[1] == 1:
        _count_tenths(cell, scores[:, 0], labels, weights)
        if top:
            _look_at(cell, examples, top)


def widths(bins: Ints, coarse: Sequence[int]) -> Ints:
    """Of bins [n], or of places, how many places the bin has."""
    levels = (bins[:, None] < np.array(coarse, np.int64)).sum(axis=1)
    found: Ints = 1 << np.minimum(levels, _LEVELS)
    return found


def _bins(places: Ints, coarse: Sequence[int]) -> Ints:
    width = widths(places, coarse)
    return places // width * width


def _places(scores: Floats) -> Ints:
    with np.errstate(divide="ignore"):
        odds = np.log(scores) - np.log1p(-scores)
    found: Ints = np.rint(np.clip(odds, -_LARGEST, _LARGEST) * STEPS).astype(np.int64)
    return found


def _by_class(scores: Floats) -> Floats:
    """Probabilities [n, classes]; of one score, of class 0 and class 1."""
    return np.hstack([1.0 - scores, scores]) if scores.shape[1] == 1 else scores


def _squared(scores: Floats, labels: Ints) -> Floats:
    if scores.shape[1] == 1:
        return np.square(scores[:, 0] - labels)
    found: Floats = np.square(scores - np.eye(scores.shape[1])[labels]).sum(axis=1)
    return found


def _count_bins(
    histogram: Histogram, scores: Floats, positive: NDArray[np.bool_], weights: Ints
) -> None:
    counts = np.zeros((len(scores), 2), np.int64)
    counts[np.arange(len(scores)), positive.astype(np.int64)] = weights
    _put(histogram, _bins(_places(scores), histogram.coarse), counts)
    while len(histogram.bins) > _BINS:
        _coarsen(histogram)


def _put(histogram: Histogram, bins: Ints, counts: Ints) -> None:
    """Add counts [n, 2] to bins [n]; bins that are empty then go."""
    unique, rows = np.unique(bins, return_inverse=True)
    summed = np.zeros((len(unique), 2), np.int64)
    np.add.at(summed, rows, counts)
    for one, (others, positives) in zip(unique.tolist(), summed.tolist(), strict=True):
        before = histogram.bins.get(one, (0, 0))
        histogram.bins[one] = [before[0] + others, before[1] + positives]
        if histogram.bins[one] == [0, 0]:
            del histogram.bins[one]


def _coarsen(histogram: Histogram) -> None:
    """Make the lower half of the bins twice as wide. No bin lies on both sides of a boundary."""
    bins = np.array([*histogram.bins], np.int64)
    counts = np.array([*histogram.bins.values()], np.int64)
    widest = 1 << _LEVELS
    histogram.coarse.append(int(np.median(bins)) // widest * widest + widest)
    histogram.bins = {}
    _put(histogram, _bins(bins, histogram.coarse), counts)


def _count_tenths(cell: Cell, scores: Floats, labels: Ints, weights: Ints) -> None:
    tenths = np.array(cell.calibration or np.zeros((TENTHS, 3)), np.float64)
    places = np.minimum((scores * TENTHS).astype(np.int64), TENTHS - 1)
    columns = np.stack([weights, weights * (labels == 1), weights * scores], axis=1)
    np.add.at(tenths, places, columns)
    cell.calibration = tenths.tolist()


def _look_at(cell: Cell, examples: Counted, top: int) -> None:
    found, scores = cell.top, examples.scores[:, 0].tolist()
    positives = ((examples.labels == 1) * examples.weights).tolist()
    for key, score, positive in zip(examples.keys, scores, positives, strict=True):
        highest, before = found.get(key, (score, 0))
        found[key] = (max(highest, score), before + positive)
    if len(found) > top:
        best = sorted(found.items(), key=lambda one: (-one[1][0], one[0]))[:top]
        cell.top = dict(best)
