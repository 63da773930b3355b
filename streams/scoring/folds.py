"""What is folded: decoded events as batches for the feature state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streams.ports.batches import MicroBatch
from streams.ports.features import FoldBatch
from streams.scoring.decoded import Decoded
from streams.spec.fields import spelt
from streams.spec.windows import FoldPlan

_SPARE_BITS = 64 - 53
"""Of a hash, so that a float64 holds the rest as it is."""


def codes(column: NDArray[np.object_]) -> NDArray[np.float64]:
    """A number for each value of a category, [n]: a hash of how it is spelt."""
    texts = [spelt(value).encode(errors="surrogatepass") for value in column]
    hashes = [xxh3_64_intdigest(text) >> _SPARE_BITS for text in texts]
    return np.array(hashes, np.float64)


def fold_batches(
    plan: FoldPlan, batches: Sequence[MicroBatch], decoded: Decoded, sizes: Sequence[int]
) -> list[FoldBatch]:
    """The fold of each micro-batch of several that were decoded together, with `sizes` events."""
    offsets = np.array([record.offset for record in decoded.records], np.int64)
    ids, times = decoded.hashes(), decoded.times.astype(np.uint32)
    entities = [list(map(str.encode, decoded.entities[key.key])) for key in plan.keys]
    columns = [
        codes(decoded.columns[value]) if value in plan.texts else decoded.columns[value]
        for value in plan.values
    ]
    values = np.stack(columns, 1) if columns else np.empty((len(offsets), 0))
    found, start = list[FoldBatch](), 0
    for batch, size in zip(batches, sizes, strict=True):
        rows = slice(start, start := start + size)
        found.append(
            FoldBatch(
                partition=batch.partition,
                first=batch.first,
                next=batch.next,
                offsets=offsets[rows],
                ids=ids[rows],
                times=times[rows],
                entities=[names[rows] for names in entities],
                values=values[rows],
                committed=batch.committed,
            )
        )
    return found
