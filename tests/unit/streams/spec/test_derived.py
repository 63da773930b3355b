"""Features derived from others: exact, in order, and one line where they cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streams.errors import PipelineError
from streams.spec import Column, Count, Derived, Mean, Pipeline
from streams.spec.layout import features_of
from streams.testing import Rehearsal
from tests.synthetic import declare

DECLARED = declare("derived")
MEAN = Mean(key="machine", over="1h", field="a", name="mean")


def with_features(*features: Any) -> Pipeline:
    return replace(DECLARED, features=features)


def ratio(of: Any) -> Any:
    return of["a"] / of["mean"]


def event(number: int, a: float, minute: int = 0) -> dict[str, Any]:
    at = f"2024-01-01T12:{minute:02}:00Z"
    rest = {"b": 1.0, "c": 1.0, "constant": 1.0}
    return {"reading_id": f"e{number}", "machine": "m", "at": at, "a": a, **rest}


async def scored(
    pipeline: Pipeline, *events: dict[str, Any]
) -> tuple[list[list[float]], list[str]]:
    found = await Rehearsal(pipeline).score(events)
    rows = pipeline.layout.unpack([one.vector for one in found.scored])
    return features_of(rows).tolist(), [one["detail"] for one in found.dead_letters]


async def test_a_ratio_of_a_field_and_a_window() -> None:
    twice = Derived("twice", ("ratio",), lambda of: 2 * of["ratio"])
    pipeline = with_features(Derived("ratio", ("a", "mean"), ratio), Column("a"), MEAN, twice)
    assert pipeline.feature_names == ("ratio", "a", "mean", "twice")
    rows, bad = await scored(pipeline, event(1, 2.0), event(2, 6.0, 1))
    assert rows == [[1.0, 2.0, 2.0, 2.0], [1.5, 6.0, 4.0, 3.0]]
    assert not bad


async def test_what_is_not_finite_is_that_event_s_affair() -> None:
    with np.errstate(all="raise"):  # ours are not raised
        rows, bad = await scored(
            with_features(Column("a"), Derived("inverse", ("a",), lambda of: 1 / of["a"])),
            event(1, 0.0),
            event(2, 4.0),
        )
    assert rows == [[4.0, 0.25]]
    assert bad == ["a feature is not a finite number"]


def test_its_function_is_in_the_hash() -> None:
    hashes = {
        with_features(Column("a"), Derived("d", ("a",), function)).schema_hash
        for function in (lambda of: of["a"], lambda of: of["a"] + 1)
    }
    assert len(hashes) == 2


async def test_nobody_changes_what_others_see() -> None:
    def spoils(of: Any) -> Any:
        of["a"][:] = 0
        return of["a"]

    pipeline = with_features(Column("a"), Derived("d", ("a",), spoils))
    with pytest.raises(PipelineError, match="read-only"):
        await scored(pipeline, event(1, 1.0))


@pytest.mark.parametrize(
    ("derived", "said"),
    [
        (Derived("d", ("b",), ratio), "'b' is no feature before it"),
        (Derived("d", ("d",), ratio), "'d' is no feature before it"),
        (Derived("d", (), ratio), "is empty"),
        (Derived("d", "a", ratio), "no tuple of texts"),  # type: ignore[arg-type]
        (Derived("d", ("a",), "ratio"), "is not callable"),  # type: ignore[arg-type]
        (Derived("a", ("a",), ratio), "is declared twice"),
    ],
)
def test_mistakes_are_one_line(derived: Derived, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        with_features(Column("a"), Count(key="machine", over="1h"), derived)
