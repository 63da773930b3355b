"""What the events of a micro-batch are served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ServedScores:
    """What each event of a micro-batch is served."""

    scores: NDArray[np.float32]
    """[n, outputs]; not finite where the model errs on the event and there is no fallback."""
    versions: NDArray[np.int64]
    """[n] 0 for the fallback."""
    thresholds: NDArray[np.float64]
    """[n]"""
    arms: NDArray[np.int8]
    """[n] Index in `ARMS`."""
    propensities: NDArray[np.float64]
    """[n] Share of the entities that are in the arm."""

    @classmethod
    def of(cls, scores: NDArray[np.float32], version: int, threshold: float) -> ServedScores:
        """Scores that one version gave."""
        rows = len(scores)
        versions, thresholds = np.full(rows, version, np.int64), np.full(rows, threshold)
        return cls(scores, versions, thresholds, np.zeros(rows, np.int8), np.ones(rows))

    @classmethod
    def joined(cls, parts: Sequence[ServedScores]) -> ServedScores:
        """Several, one after the other."""
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def select(self, keep: NDArray[np.bool_]) -> ServedScores:
        """Of the events where `keep` is set."""
        return self.take(np.flatnonzero(keep))

    def take(self, rows: NDArray[np.int64]) -> ServedScores:
        """Of these rows, in their order."""
        return ServedScores(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))
