"""Earlier answers of a feature state, kept until their offsets are committed.

A replay may come with other batch boundaries than the first time, partly folded and partly new:
the folded part is answered from here, row by row, and only the rest is folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streams.errors import StateLost
from streams.ports.features import FoldBatch, Folded, concatenate
from streams.spec.windows import FoldPlan


@dataclass(frozen=True)
class Answer:
    """What one fold returned."""

    next: int
    """The offset after the fold's span; the answer may go once this is committed."""
    offsets: NDArray[np.int64]
    """[n] ascending."""
    folded: Folded


def check(plan: FoldPlan, batch: FoldBatch) -> None:
    """Raise `ValueError` where a batch does not fit the plan: the caller's mistake, not the data's.

    Values must be finite: one infinity would poison the sums of every later event of its entity.
    """
    n = len(batch.offsets)
    lengths = [len(batch.ids), len(batch.times), *(len(names) for names in batch.entities)]
    if any(length != n for length in lengths) or len(batch.entities) != len(plan.keys):
        raise ValueError(f"{n} offsets, but ids, times and entities have {lengths} rows")
    if batch.values.shape != (n, len(plan.values)):
        raise ValueError(f"values are {batch.values.shape}, expected {(n, len(plan.values))}")
    if not np.isfinite(batch.values).all():
        raise ValueError("values must be finite: reject such events before they are folded")


def recall(answers: Sequence[Answer], batch: FoldBatch, fence: int, width: int) -> Folded:
    """What was answered for the batch's offsets below the fence, in order.

    Raises:
        StateLost: an offset's answer is no longer kept.
    """
    asked = batch.offsets[batch.offsets < fence]
    held = concatenate(
        [Folded(np.empty((0, width)), np.empty(0, np.bool_)), *(a.folded for a in answers)]
    )
    offsets = np.concatenate([np.empty(0, np.int64), *(answer.offsets for answer in answers)])
    missing = ~np.isin(asked, offsets)
    if missing.any():
        raise StateLost(batch.partition, int(asked[missing][0]), fence)
    rows = np.searchsorted(offsets, asked)
    return Folded(held.aggregates[rows], held.duplicate[rows])


def first_answered(answers: Sequence[Answer], fence: int | None) -> int | None:
    """The first offset of which the answer is kept; the fence where there is none."""
    return next((int(one.offsets[0]) for one in answers if len(one.offsets)), fence)


def since(batch: FoldBatch, offset: int) -> FoldBatch:
    """The part of a batch from `offset` on."""
    start = int(np.searchsorted(batch.offsets, offset))
    return replace(
        batch,
        first=offset,
        offsets=batch.offsets[start:],
        ids=batch.ids[start:],
        times=batch.times[start:],
        entities=[names[start:] for names in batch.entities],
        values=batch.values[start:],
    )
