"""The paired bootstrap: several statistics on the same resamples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.evaluation.metrics import Labels, Metric, Weights

_CHUNK = 2_000_000
"""Counts in memory at once."""

Entities = NDArray[Any]
"""[n] the entity of each example."""


def resampled(
    metrics: Sequence[Metric],
    labels: Labels,
    resamples: int,
    seed: int,
    entities: Entities | None = None,
) -> NDArray[np.float64]:
    """All statistics on the same resamples, [resamples, metrics].

    Each class is resampled by itself (stratified), so that no resample is without positives. With
    entities, each is drawn with all its examples (cluster bootstrap: Davison & Hinkley, Bootstrap
    Methods and their Application, 1997, section 3.8), those with a positive by themselves.
    """
    random = np.random.default_rng(seed)
    unit = (
        np.arange(len(labels)) if entities is None else np.unique(entities, return_inverse=True)[1]
    )
    stratum = np.full(int(unit.max()) + 1, -np.inf)
    np.maximum.at(stratum, unit, labels)
    strata = [np.flatnonzero(stratum == one) for one in np.unique(stratum)]
    found = []
    chunk = max(1, _CHUNK // max(1, len(labels)))
    for first in range(0, resamples, chunk):
        counts = _counts(random, strata, min(chunk, resamples - first), len(stratum))
        if entities is not None:
            counts = counts[:, unit]
        found.append(np.stack([one(counts) for one in metrics], axis=1))
    return np.concatenate(found)


def _counts(
    random: np.random.Generator, strata: list[NDArray[np.int64]], rows: int, n: int
) -> Weights:
    """How often each unit is drawn, [rows, n]."""
    counts = np.zeros((rows, n))
    for members in strata:
        drawn = random.integers(0, len(members), (rows, len(members)))
        drawn += np.arange(rows)[:, None] * len(members)
        flat = np.bincount(drawn.ravel(), minlength=rows * len(members))
        counts[:, members] = flat.reshape(rows, -1)
    return counts
