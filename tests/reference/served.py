"""Distributions of what was served, counted event by event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from streams.distributions import PARTS, Distribution, Reference, is_score
from streams.records import Scored
from streams.spec import Pipeline
from workers.evaluation.reference import SliceColumns, reference_of

DAY = 86_400


def a_reference(pipeline: Pipeline, seed: int = 9) -> Reference:
    """Of ten days of made-up vectors, 400 a day; the second column is 0 or 1."""
    rng = np.random.default_rng(seed)
    vectors = rng.gamma(2, 100, (4000, len(pipeline.feature_names))).astype(np.float32)
    vectors[:, 1] = rng.integers(0, 2, 4000)
    times = np.linspace(0, 10 * DAY, 4000, endpoint=False)
    seen = SliceColumns(
        (0, 10 * DAY), times, vectors, rng.random((4000, 1)) / 10, np.arange(4000) % 50
    )
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
    newest = 0.0
    for one in served:
        start = _happened(one) // span * span
        newest = max(newest, start)
        if start >= newest - 8 * span:  # later ones are not counted
            truth[start, one.version].append(one)
    found = {(cell.start, cell.version): cell for cell in cells}
    wrong = {
        name: _problem(found.get(name), truth[name], references.get(name[1]))
        for name in truth.keys() | found.keys()
    }
    return [f"{name}: {problem}" for name, problem in wrong.items() if problem]


def _happened(one: Scored) -> float:
    return one.event_time if one.written is None else one.written


def _score(one: Scored, place: int) -> Any:
    return np.float32(one.score[place] if isinstance(one.score, list) else one.score)


def _problem(cell: Distribution | None, served: list[Scored], reference: Reference | None) -> str:
    """What is wrong with a cell; empty for nothing."""
    if cell is None or not served:
        return f"{len(served)} events, and {'no' if cell is None else 'a'} cell"
    places = [int((_happened(one) - cell.start) * PARTS / cell.span) for one in served]
    if (cell.events, cell.newest) != (len(served), max(map(_happened, served))):
        return f"{cell.events} events to {cell.newest}, and not {len(served)}"
    if cell.parts != [places.count(part) for part in range(PARTS)]:
        return f"parts {cell.parts}"
    if reference is None:
        return "columns" if cell.counts or cell.sums or cell.outside else ""
    for number, (name, column) in enumerate(reference.columns.items()):
        values: list[Any] = [
            _score(one, number - reference.features)
            if is_score(name)
            else np.frombuffer(one.vector, "<f4")[number]
            for one in served
        ]
        bounds = np.array([-np.inf, *column.edges, np.inf], np.float32)
        between = [sum(low < value <= high for value in values) for low, high in pairwise(bounds)]
        low, high = np.float32(column.low), np.float32(column.high)
        outside = sum(not low <= value <= high for value in values)
        total = pytest.approx(sum(map(float, values)), rel=1e-6, abs=1e-3)
        if cell.counts[number] != between or cell.outside[number] != outside:
            return f"{name}: {cell.counts[number]}, and not {between}"
        if cell.sums[number] != total:
            return f"{name}: the sum {cell.sums[number]}, and not {total}"
    return ""
