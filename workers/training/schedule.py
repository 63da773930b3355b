"""When a candidate is due, and which offsets it learns from: pure, given what has been read.

Everything goes by the event time of matured examples, on a fixed grid (`every` apart from the last
decision), so that a replay of the same topics makes the same candidates from the same offsets.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.spec import Retrain
from workers.examples.index import Index
from workers.examples.reading import OffsetRanges
from workers.training.slices import Slices, slices_at


@dataclass(frozen=True)
class Due:
    """A candidate that should be made now."""

    watermark: float
    """Labels are mature up to this event time."""
    window: OffsetRanges
    slices: Slices


def due(
    policy: Retrain, index: Index, decided: float, expected: Set[int], classes: int
) -> Due | None:
    """The candidate to make now; None where there is none to make yet.

    `decided` is the label watermark of the last candidate; 0 before the first, which is due `every`
    after the earliest example.
    """
    watermark = index.watermark(expected, idle=policy.window_seconds)
    since = decided or index.earliest
    steps = math.floor((watermark - since) / policy.every_seconds) if watermark > since else 0
    if steps < 1:
        return None
    target = since + steps * policy.every_seconds
    slices = slices_at(policy, target)
    if not _enough(policy, index, slices, classes):
        return None
    return Due(target, index.window(slices.train[0], slices.evaluate[1]), slices)


def _enough(policy: Retrain, index: Index, slices: Slices, classes: int) -> bool:
    """Whether there are enough examples for a training run (corrections count twice)."""
    counts = _counts(index.labels(slices.train), classes)
    if sum(counts) < policy.least_examples or min(counts) < policy.least_positives:
        return False
    spans = (slices.validate, slices.evaluate)
    return all(np.count_nonzero(_counts(index.labels(span), classes)) >= 2 for span in spans)


def _counts(labels: NDArray[np.float32], classes: int) -> list[int]:
    return [int(np.count_nonzero(labels == one)) for one in range(classes)]
