"""The paired bootstrap: two metrics on the same resamples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers.evaluation.metrics import Labels, Metric, Weights

_CHUNK = 2_000_000
"""Counts in memory at once."""


def paired(
    metrics: tuple[Metric, Metric], labels: Labels, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Both metrics on the same resamples, [resamples, 2].

    Each class is resampled by itself (stratified), so that no resample is without positives.
    """
    random = np.random.default_rng(seed)
    strata = [np.flatnonzero(labels == one) for one in np.unique(labels)]
    found = []
    chunk = max(1, _CHUNK // max(1, len(labels)))
    for first in range(0, resamples, chunk):
        counts = _counts(random, strata, min(chunk, resamples - first), len(labels))
        found.append(np.stack([one(counts) for one in metrics], axis=1))
    return np.concatenate(found)


def _counts(
    random: np.random.Generator, strata: list[NDArray[np.int64]], rows: int, n: int
) -> Weights:
    counts = np.zeros((rows, n))
    for members in strata:
        drawn = random.integers(0, len(members), (rows, len(members)))
        drawn += np.arange(rows)[:, None] * len(members)
        flat = np.bincount(drawn.ravel(), minlength=rows * len(members))
        counts[:, members] = flat.reshape(rows, -1)
    return counts
