"""A scorer in memory: for `driftloop check`, rehearsals and users' own unit tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.adapters.scores import check_scores
from streams.errors import Unavailable
from streams.ports.models import Beside
from streams.spec.layout import Rows

Network = Callable[[Rows], NDArray[np.float32]]
"""Rows -> scores float32 [n, outputs]."""


@dataclass(frozen=True)
class FixedChampion:
    """`Champion` that no ledger changes."""

    version: int
    threshold: float = 0.5
    beside: Beside | None = None


class MemoryScorer:
    """`Scorer` on Python functions, one per version."""

    def __init__(self, networks: Mapping[int, Network], outputs: int = 1) -> None:
        self.networks = dict(networks)
        self._outputs = outputs

    async def infer(self, version: int, rows: Rows) -> NDArray[np.float32]:
        """Scores float32 [n, outputs] of rows by one version.

        Raises:
            Unavailable: there is no such version.
            ModelError: the function answers wrongly.
        """
        if version not in self.networks:
            raise Unavailable(f"version {version}", "memory", "networks", "not loaded")
        if not len(rows):
            return np.empty((0, self._outputs), np.float32)
        scores = self.networks[version](rows)
        return check_scores("in memory", version, scores, (len(rows), self._outputs))

    async def close(self) -> None:
        """Nothing to release."""
