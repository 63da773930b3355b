"""Short ways to write micro-batches for feature states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from streams.errors import StateBehind
from streams.ports.features import FeatureState, FoldBatch, LabelBatch
from streams.spec.windows import FoldPlan, KeyPlan


class E(NamedTuple):
    """An event: time in seconds, names of its entities in the plan's order, id, values."""

    time: int
    names: tuple[str, ...]
    id: int = 0
    values: tuple[float, ...] = ()


class L(NamedTuple):
    """A label of the event of that time, for these entities."""

    time: int
    names: tuple[str, ...]
    delta: float = 1.0
    by_class: tuple[float, ...] = ()


def fold_batch(
    events: Sequence[E],
    first: int = 0,
    *,
    partition: int = 0,
    committed: int = 0,
    offsets: Sequence[int] = (),
    following: int | None = None,
) -> FoldBatch:
    """A micro-batch of events at consecutive offsets from `first`, or at `offsets`."""
    rows = np.array(offsets or range(first, first + len(events)), np.int64)
    names = [event.names for event in events]
    width = len(events[0].values) if events else 0
    return FoldBatch(
        partition=partition,
        first=first,
        next=(int(rows[-1]) + 1 if len(rows) else first) if following is None else following,
        offsets=rows,
        ids=np.array([event.id for event in events], np.uint64),
        times=np.array([event.time for event in events], np.uint32),
        entities=[[name.encode() for name in column] for column in zip(*names, strict=True)],
        values=np.array([event.values for event in events], np.float64).reshape(len(events), width),
        committed=committed,
    )


def label_batch(labels: Sequence[L], first: int = 0, *, partition: int = 0) -> LabelBatch:
    """Labels at consecutive feedback offsets from `first`."""
    names = [label.names for label in labels]
    classes = bool(labels and labels[0].by_class)
    return LabelBatch(
        partition=partition,
        next=first + len(labels),
        offsets=np.arange(first, first + len(labels), dtype=np.int64),
        times=np.array([label.time for label in labels], np.uint32),
        entities=[[name.encode() for name in column] for column in zip(*names, strict=True)],
        deltas=np.array([label.delta for label in labels], np.float64),
        by_class=np.array([one.by_class for one in labels], np.float64) if classes else None,
    )


CARD = KeyPlan("card", (0, 10, 100), ("amount",), False, ((0, 1), (0, 2)), remember=50)
SHOP = KeyPlan("shop", (20, 40, 120), (), True, ((0, 1), (0, 2)), label_age=20, lag=30)
PLAN = FoldPlan((CARD, SHOP))
"""Card: count, sum over 10 s and 100 s. Shop: count, labels over 20 s and 100 s, from 20 s ago; a
partition may be 30 s behind another."""


async def label_fence(state: FeatureState, partition: int, stream: str = "feedback") -> int:
    """Where a stream's labels go on; 0 before the first. Changes nothing."""
    nothing = replace(label_batch([]), entities=[[]])
    beyond = replace(nothing, partition=partition, stream=stream, first=1 << 40)
    with pytest.raises(StateBehind) as caught:
        await state.fold_labels(beyond)
    return caught.value.folded
