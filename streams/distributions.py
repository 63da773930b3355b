"""How columns are distributed: a version's reference, and what it served, in the same bins.

The columns are the features of the vectors and the scores. A reference is made where a version is
trained and stands in its manifest; what is served is counted against it, without any label.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

PARTS = 24
"""A bucket's events are counted by parts of it, too."""
MOST_COLUMNS, MOST_BINS, BINS, LEAST_BINS = 1024, 4096, 16, 4
"""Columns of a reference; bins that hold as many events each, of all columns together, and the most
and the least of one column. What many events share, or lies outside, has bins beside."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ReferenceColumn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column of a reference."""

    edges: list[float]
    """Rising; the bins are (-inf, first], (first, second], ... (last, inf). A value that many
    events share has a bin of its own."""
    counts: list[int]
    """Examples by bin."""
    low: float
    """The least value."""
    high: float
    """The largest value."""
    mean: float
    spread: list[float] = []
    """By edge: how far a new bucket strays from `counts`, as the standard deviation of the angle
    of the share below (`workers.evaluation.drift`). Empty without enough buckets."""
    usual: float = 0.0
    """The largest stability index that a training bucket has against the others."""
    filled: float | None = None
    """What cleaning puts in place of a missing value."""


class Reference(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a version's columns were distributed: features where it was trained, scores later."""

    span: int
    """Event-time seconds of a bucket."""
    buckets: int
    """Whole buckets of the training slice, from which `levels` come."""
    events: float
    """Examples in one of them."""
    columns: dict[str, ReferenceColumn]
    """By name; features in the vectors' order, then the scores."""
    levels: dict[float, float] = {}
    """False alarms a bucket -> what the largest shift of all columns has to exceed."""

    @property
    def features(self) -> int:
        """How many columns are features."""
        return len(self.columns) - sum(is_score(name) for name in self.columns)


class Distribution(msgspec.Struct, omit_defaults=True):
    """`P.drift`: what a version served in a bucket of event time, counted against its reference.

    A partition has records of its own, keyed by bucket and version, and a later one replaces the
    earlier. All are sums: they add up over partitions.
    """

    start: float
    """Event time from which its events are, seconds since 1970."""
    span: float
    """For so many seconds."""
    version: int
    """0 for the fallback."""
    next: int = 0
    """Records of its partition of `P.scored` below this offset are counted."""
    newest: float = 0.0
    """The latest event time among them."""
    events: int = 0
    parts: list[int] = []
    """Events by 24th of the bucket."""
    counts: list[list[int]] = []
    """Of each of the reference's columns, events by bin. Empty where the version has none."""
    sums: list[float] = []
    """Of each column, the values summed."""
    outside: list[int] = []
    """Of each column, events outside the range that the reference has."""


def is_score(column: str) -> bool:
    """Whether a column of a reference is a score: those are named `score`, or `score 2`."""
    return column == "score" or column.startswith("score ")


def score_names(outputs: int) -> list[str]:
    """The names of the score's columns."""
    return ["score"] if outputs == 1 else [f"score {number}" for number in range(outputs)]


def watched(features: list[str], outputs: int) -> list[str]:
    """The columns of a reference: the features, as far as there is room, and the scores."""
    scores = score_names(outputs)
    return [*islice(features, max(0, MOST_COLUMNS - outputs)), *scores]


def bins_each(columns: int) -> int:
    """Bins that each of so many columns may have."""
    return int(np.clip(MOST_BINS // max(1, columns), LEAST_BINS, BINS))


class Binning:
    """Counts vectors and scores in a reference's bins."""

    def __init__(self, reference: Reference) -> None:
        columns = list(reference.columns.values())
        self.features = [name for name in reference.columns if not is_score(name)]
        """The names of the vectors' columns."""
        self._edges = [np.array(one.edges, np.float32) for one in columns]
        self._low = np.array([one.low for one in columns], np.float32)
        self._high = np.array([one.high for one in columns], np.float32)

    def columns(self, vectors: NDArray[np.float32], scores: NDArray[Any]) -> NDArray[np.float32]:
        """Float32 [n, columns] of vectors [n, features] and scores [n, outputs]."""
        return np.hstack([vectors[:, : len(self.features)], scores.astype(np.float32)])

    def counts(self, columns: NDArray[np.float32]) -> list[Ints]:
        """Of each column of [n, columns], how many values are in each bin."""
        return [
            np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
            for edges, values in zip(self._edges, columns.T, strict=True)
        ]

    def add(self, cell: Distribution, columns: NDArray[np.float32]) -> None:
        """Count [n, columns] into a cell."""
        counts = self.counts(columns)
        if cell.counts:
            counts = [one + before for one, before in zip(counts, cell.counts, strict=True)]
        cell.counts = [one.tolist() for one in counts]
        sums = columns.sum(axis=0, dtype=np.float64)
        outside = np.count_nonzero((columns < self._low) | (columns > self._high), axis=0)
        cell.sums = (sums + (cell.sums or 0.0)).tolist()
        cell.outside = (outside + (cell.outside or 0)).tolist()
