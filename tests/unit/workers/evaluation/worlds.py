"""Days of events whose features and scores are known, and that resemble one another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.distributions import Binning, Distribution, Reference
from workers.evaluation.reference import SliceColumns, reference_of

DAY = 86_400
NAMES = ["amount", "weekend", "rate", "web"]


class Days:
    """A world without drift. Events of one of its entities are alike, and so are those of a day."""

    def __init__(self, seed: int, each: int = 600, entities: int = 60) -> None:
        self._seed, self._each = seed, each
        self._level = np.random.default_rng(seed).normal(0, 0.6, entities)

    def day(self, number: int) -> tuple[Any, Any, Any, Any]:
        """Times, vectors, scores and entities of a day; the same whenever it is asked for."""
        rng = np.random.default_rng([self._seed, number])
        count = int(rng.poisson(self._each))
        entities = rng.integers(0, len(self._level), count)
        amounts = np.exp(3 + self._level[entities] + rng.normal(0, 0.1) + rng.normal(0, 0.5, count))
        rates = np.where(rng.random(count) < 0.8, 0.0, rng.random(count))
        columns = [amounts, np.full(count, number % 7 >= 5), rates, rng.random(count) < 0.4]
        scores = 1 / (1 + np.exp(6 - rates - np.log(amounts)))
        times = number * DAY + np.sort(rng.uniform(0, DAY, count))
        return times, np.column_stack(columns).astype(np.float32), scores[:, None], entities

    def slice(self, first: int, after: int) -> SliceColumns:
        """Some days."""
        parts = [self.day(number) for number in range(first, after)]
        times, vectors, scores, entities = (np.concatenate(one) for one in zip(*parts, strict=True))
        return SliceColumns((first * DAY, after * DAY), times, vectors, scores, entities)

    def reference(self, days: int = 21, **asked: Any) -> Reference:
        """Of so many days, and three more that are held out."""
        trained, held_out = self.slice(0, days), self.slice(days, days + 3)
        return reference_of(NAMES, trained, held_out, DAY, **asked)


def counted(
    reference: Reference, vectors: NDArray[np.float32], scores: Any, start: float = 0.0
) -> Distribution:
    """What was served in a day, by version 1 and evenly over the day."""
    binning, count = Binning(reference), len(vectors)
    cell = Distribution(start, DAY, 1, newest=start + DAY - 1, events=count)
    cell.parts = (np.arange(24) * 0 + count // 24).tolist()
    binning.add(cell, binning.columns(vectors, scores))
    return cell
