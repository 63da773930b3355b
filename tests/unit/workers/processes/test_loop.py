"""Which workers a loop runs."""

from __future__ import annotations

from streams.spec import Policies, RollOut
from tests.unit.pipelines import declare
from workers.processes.loop import _numbers, worker_name


def names(rollout: RollOut) -> list[str]:
    declared = declare(policies=Policies(rollout=rollout))
    numbers = _numbers(declared, 2)
    return [worker_name(role, n + 1) for role, count in numbers.items() for n in range(count)]


def test_the_shadow_runs_where_versions_are_rolled_out_by_degrees() -> None:
    assert names(RollOut.at_once()) == ["score-1", "score-2", "label", "evaluate"]
    assert names(RollOut()) == ["score-1", "score-2", "label", "evaluate", "shadow"]
