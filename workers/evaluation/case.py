"""What the gate is told of a candidate: labels, scores, and what the ledger says."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.spec.tasks import BINARY, Task
from workers.evaluation.history import History
from workers.evaluation.metrics import Labels, Scores
from workers.evaluation.resampling import Entities

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Contender:
    """A version on the evaluation slice: candidate, champion or anchor."""

    version: int = 0
    """0 where there is none, and for the candidate."""
    scores: Scores | None = None
    """[n] or [n, outputs], of the same examples; None where there are none to compare."""
    threshold: float = 0.5
    served: Mask | None = None
    """[n] the examples whose scores are those that it served; None where it scored all anew."""
    problem: str = ""
    """Why it did not score the examples anew."""


@dataclass(frozen=True)
class Case:
    """All that the gate is told of a candidate."""

    labels: Labels
    """[n] of the evaluation slice; of a ranking [n, most], NaN where there is no candidate."""
    candidate: Contender
    champion: Contender = Contender()
    anchor: Contender = Contender()
    validation: int | None = None
    """Examples of the rarest class where the threshold was chosen; None where none was."""
    earlier: History = field(default_factory=History)
    """Its run holds only what is independent of this evaluation slice (`history.apart`)."""
    entities: Entities | None = None
    """[n] what to resample by; None for single examples."""
    task: Task = BINARY
    constant: NDArray[np.float32] | None = None
    """Of a value: the best scores [outputs] that are always the same, of the training slice."""


def supporting(case: Case, rows: Mask) -> int:
    """Examples of the rarest class among these rows; entities that have one, where those count.

    All of them, where labels are numbers; of a ranking those of which something was chosen.
    """
    if case.task.ranks:
        parts = [rows & (case.labels > 0).any(axis=1)]
    else:
        parts = [rows & (case.labels == one) for one in range(case.task.classes)] or [rows]
    if case.entities is None:
        return min(int(np.count_nonzero(members)) for members in parts)
    return min(len(np.unique(case.entities[members])) for members in parts)


def scored_rows(case: Case, other: Contender) -> Mask:
    """The examples that another version has scores of."""
    if other.scores is None:
        return np.zeros(len(case.labels), bool)
    return np.ones(len(case.labels), bool) if other.served is None else other.served
