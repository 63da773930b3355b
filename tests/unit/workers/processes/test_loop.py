"""Which workers a loop runs."""

from __future__ import annotations

from streams.spec import Policies, RollOut
from tests.unit.pipelines import declare
from workers.processes.loop import worker_name
from workers.resources.following import roles_of


def test_the_shadow_runs_where_versions_are_rolled_out_by_degrees() -> None:
    at_once = declare(policies=Policies(rollout=RollOut.at_once()))
    assert roles_of(at_once) == ("score", "label", "evaluate")
    assert roles_of(declare(policies=Policies(rollout=RollOut()))) == (
        "score",
        "label",
        "evaluate",
        "shadow",
    )


def test_workers_of_a_role_have_names_of_their_own() -> None:
    names = [worker_name(role, n) for role in ("score", "label") for n in (1, 2)]
    assert names == ["score-1", "score-2", "label", "label-2"]
