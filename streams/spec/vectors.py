"""How rows are made: of features that need no state, of a fold, of features derived from both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from streams.spec.aggregates import Window
from streams.spec.derived import Derived
from streams.spec.events import Columns
from streams.spec.features import Block, Feature
from streams.spec.windows import FoldPlan, Select, select


class Vectors:
    """Makes the vectors of a pipeline's features."""

    def __init__(self, features: Sequence[Feature], plan: FoldPlan) -> None:
        self._features = features
        self._plan = plan
        bounds = accumulate((len(feature.names) for feature in features), initial=0)
        self._places = [slice(*pair) for pair in pairwise(bounds)]
        self._names = tuple(name for feature in features for name in feature.names)
        self._stateless = {
            i: one for i, one in enumerate(features) if not isinstance(one, Window | Derived)
        }
        self._derived = [
            (place.start, one)
            for place, one in zip(self._places, features, strict=True)
            if isinstance(one, Derived)
        ]

    def no_stateless(self) -> dict[int, Block]:
        """As `stateless`, of no events."""
        return {i: np.empty((0, len(one.names))) for i, one in self._stateless.items()}

    def stateless(self, columns: Columns) -> dict[int, Block]:
        """The features that need no state, by their position: float64 [n, width] each."""
        return {i: one.compute(columns) for i, one in self._stateless.items()}

    def of(
        self, stateless: Mapping[int, Block], folded: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """What the model sees of the features: float32 [n, features].

        From those that need no state and a fold's [n, plan.width]. Raises as `Derived.compute`.
        """
        vectors = np.empty((len(folded), len(self._names)), np.float32)
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and is rejected
            for place, selected in self._windowed:
                vectors[:, place] = selected(folded)
            for i, block in stateless.items():
                vectors[:, self._places[i]] = block
            if self._derived and len(vectors):
                self._derive(vectors, stateless, folded)
        return vectors

    def _derive(
        self,
        vectors: NDArray[np.float32],
        stateless: Mapping[int, Block],
        folded: NDArray[np.float64],
    ) -> None:
        """Fill in what is derived, of the others' exact values."""
        known = {self._names[place]: selected(folded).copy() for place, selected in self._windowed}
        for i, block in stateless.items():
            names = self._names[self._places[i]]
            known |= {name: block[:, at].copy() for at, name in enumerate(names)}
        for place, one in self._derived:
            with np.errstate(all="ignore"):  # what is not finite is rejected
                known[one.name] = one.compute(known)
            vectors[:, place] = known[one.name]

    @cached_property
    def _windowed(self) -> tuple[tuple[int, Select], ...]:
        """Each window feature's column, and how it is read from a fold."""
        return tuple(
            (place.start, select(self._plan, feature))
            for place, feature in zip(self._places, self._features, strict=True)
            if isinstance(feature, Window)
        )
