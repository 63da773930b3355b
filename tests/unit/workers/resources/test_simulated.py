"""The decision on simulated load, held to what is asked of it (`tests/bench/scaling.py`)."""

from __future__ import annotations

import pytest

from streams.spec import Scale
from tests.bench.scaling import LIMITED, PARTITIONS, SHAPES, STEP, gone, ideal_for, run

POLICY = Scale(max=PARTITIONS)


@pytest.mark.parametrize("name", ["x5 and back", "burst of 30 s"])
def test_a_step_takes_few_decisions_and_the_backlog_goes_in_time(name: str) -> None:
    shape = SHAPES[name]
    ran = run(shape, POLICY)
    peak = max(ideal_for(POLICY, shape.load(i * STEP)) for i in range(int(shape.seconds / STEP)))
    up, down = shape.steps
    assert 1 <= sum(up <= at < down for at, _ in ran.decided) <= 2
    assert 1 <= sum(at >= down for at, _ in ran.decided) <= 2
    assert ran.most <= peak + 1
    assert gone(shape, ran) <= 1.5 * POLICY.catch_up_seconds
    assert ran.decided[-1][1] == ideal_for(POLICY, shape.load(shape.seconds))
    assert ran.cost <= 0.61 * peak * shape.seconds


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("Triton is the limit", "Triton"),
        ("Redis is the limit", "Redis"),
        ("one partition is hot", "partition 0"),
    ],
)
def test_no_worker_is_added_where_it_would_not_help(name: str, named: str) -> None:
    ran = run(LIMITED[name], POLICY)
    assert ran.decided == []
    assert named in ran.limited
