"""Distributions of what was served, counted event by event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from streams.distributions import PARTS, Distribution, Reference
from streams.records import Scored
from streams.spec import Pipeline
from workers.evaluation.reference import Seen, reference_of

DAY = 86_400


def a_reference(pipeline: Pipeline, seed: int = 9) -> Reference:
    """Of ten days of made-up vectors, 400 a day; the second column is 0 or 1."""
    rng = np.random.default_rng(seed)
    vectors = rng.gamma(2, 100, (4000, len(pipeline.feature_names))).astype(np.float32)
    vectors[:, 1] = rng.integers(0, 2, 4000)
    times = np.linspace(0, 10 * DAY, 4000, endpoint=False)
    seen = Seen((0, 10 * DAY), times, vectors, rng.random((4000, 1)) / 10, np.arange(4000) % 50)
    return reference_of(list(pipeline.feature_names), seen, seen, DAY)


def wrong_distributions(
    pipeline: Pipeline,
    references: Mapping[int, Reference | None],
    served: Iterable[Scored],
    cells: Iterable[Distribution],
) -> list[str]:
    """The cells of one partition that are missing, too many, or not those of brute force."""
    span = pipeline.policies.evaluate.every_seconds
    truth = defaultdict[tuple[float, int], list[Scored]](list)
    for one in served:
        truth[_happened(one) // span * span, one.version].append(one)
    found = {(cell.start, cell.version): cell for cell in cells}
    return [
        f"{name}"
        for name in truth.keys() | found.keys()
        if name not in found or not _same(found[name], truth[name], references.get(name[1]))
    ]


def _happened(one: Scored) -> float:
    return one.event_time if one.written is None else one.written


def _same(cell: Distribution, served: list[Scored], reference: Reference | None) -> bool:
    places = [int((_happened(one) - cell.start) / cell.span * PARTS) for one in served]
    return (
        cell.events == len(served)
        and cell.parts == [places.count(part) for part in range(PARTS)]
        and cell.newest == max(map(_happened, served))
        and _same_columns(cell, served, reference)
    )


def _same_columns(cell: Distribution, served: list[Scored], reference: Reference | None) -> bool:
    if reference is None:
        return not (cell.counts or cell.sums or cell.outside)
    for number, (name, column) in enumerate(reference.columns.items()):
        values: list[Any] = [
            np.float32(one.score)  # type: ignore[arg-type]
            if name == "score"
            else np.frombuffer(one.vector, "<f4")[number]
            for one in served
        ]
        bounds = np.array([-np.inf, *column.edges, np.inf], np.float32)
        between = [sum(low < value <= high for value in values) for low, high in pairwise(bounds)]
        low, high = np.float32(column.low), np.float32(column.high)
        outside = sum(not low <= value <= high for value in values)
        total = pytest.approx(sum(map(float, values)), rel=1e-6, abs=1e-3)
        if (cell.counts[number], cell.outside[number]) != (between, outside):
            return False
        if cell.sums[number] != total:
            return False
    return True
