"""The last values of an entity's events, as an input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streams.errors import PipelineError
from streams.spec import Column, LastN, Pipeline
from streams.testing import Rehearsal
from tests.unit.streams.scoring.test_inputs import PIPELINE, event


def with_last(*inputs: LastN) -> Pipeline:
    return replace(PIPELINE, features=[Column("weight")], inputs=inputs)


async def seen(pipeline: Pipeline, *events: dict[str, Any]) -> Any:
    found = await Rehearsal(pipeline).score(events)
    assert not found.dead_letters
    return pipeline.layout.unpack([one.vector for one in found.scored])


async def test_numbers_the_newest_first_and_zero_where_there_are_none() -> None:
    pipeline = with_last(LastN("before", "line", "weight", last=3, over="1h"))
    rows = await seen(
        pipeline,
        event(1),
        event(2),
        event(3, line="b"),
        event(4),
        event(5),
        event(6, at="2024-01-01T13:04:30Z"),
    )
    assert rows["before"].tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [0, 0, 0],
        [2, 1, 0],
        [4, 2, 1],
        [5, 0, 0],
    ]
    assert rows["features"][:, 0].tolist() == [1, 2, 3, 4, 5, 6]


async def test_categories_are_indices() -> None:
    pipeline = with_last(LastN("before", "line", "note", last=2, vocabulary=1000))
    events = [event(n, note=note) for n, note in enumerate(["a", "b", "a", "c", "a"], 1)]
    rows = (await seen(pipeline, *events))["before"]
    assert rows.dtype == np.int32
    a, b = rows[1, 0], rows[2, 0]
    assert rows.tolist()[:4] == [[0, 0], [a, 0], [b, a], [a, b]]
    assert min(a, b) > 0
    assert rows.max() < 1000
    assert a != b


async def test_it_stands_beside_features_of_the_same_events() -> None:
    pipeline = replace(
        PIPELINE, inputs=[*PIPELINE.inputs, LastN("before", "line", "weight", last=2)]
    )
    rows = await seen(pipeline, event(1), event(2))
    assert rows["before"].tolist() == [[0, 0], [1, 0]]
    assert rows["features"].tolist() == [[1, 1], [2, 2]]
    assert rows["photo"][1, 0, 0] == 2
    assert pipeline.schema_hash != PIPELINE.schema_hash


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (LastN("a", "line", "nothing"), "has no field 'nothing'"),
        (LastN("a", "nobody", "weight"), "has no field 'nobody'"),
        (LastN("a", "line", "weight", last=0), "cannot be"),
        (LastN("a", "line", "weight", vocabulary=1), "is too small"),
        (LastN("a", "line", "weight", over="soon"), "soon"),
    ],
)
def test_mistakes_are_one_line(given: LastN, said: str) -> None:
    with pytest.raises(PipelineError, match=said) as error:
        with_last(given)
    assert "\n" not in str(error.value)
