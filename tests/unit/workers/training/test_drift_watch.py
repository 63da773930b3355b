"""When a drift asks for a candidate: once for a champion, and never twice for one drift."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from streams.ledger.state import LedgerState, state_after
from streams.ports.batches import SourceRecord
from streams.records import Action, LedgerEntry, Manifest
from streams.settings import Settings
from streams.spec import Drift, Policies
from tests.unit.pipelines import declare
from tests.unit.workers.evaluation.test_live_drift import REFERENCE, day, record, rows
from tests.unit.workers.evaluation.worlds import DAY
from workers.releases.manifests import blank
from workers.training import drift_watch
from workers.training.drift_watch import DriftWatch, alarms, cause

PIPELINE = declare()


def entry(version: int, action: Action, **said: Any) -> LedgerEntry:
    made: Manifest = msgspec.structs.replace(
        blank(PIPELINE), version=version, reference=REFERENCE, **said
    )
    return LedgerEntry(action, version, made.parent, 0.0, "", "gate", 0.5, made)


CHAMPION = entry(1, Action.PROMOTE)
ROWS = rows([day(30), day(31, 5.0), day(32, 5.0), day(33)])


def test_each_bucket_that_drifted_is_an_alarm_of_the_champion() -> None:
    found = alarms(ROWS, state_after([CHAMPION]), decided=0.0)
    assert [one.end for one in found] == [32 * DAY, 33 * DAY]
    assert found[0].cause == cause(ROWS[1])
    assert alarms(ROWS, state_after([CHAMPION]), decided=32 * DAY) == found[1:]


def test_the_cause_names_what_moved_and_how_far() -> None:
    said = cause(ROWS[1])
    assert said.startswith("drift of version 1 from 1970-02-01 00:00: amount (mean ")
    assert "stability index" in said


@pytest.mark.parametrize("action", [Action.REJECT, Action.INCONCLUSIVE, Action.CANDIDATE])
def test_a_drift_that_goes_on_makes_no_second_candidate(action: Action) -> None:
    made = entry(2, action, parent=1, cause="drift", label_watermark=32 * DAY)
    assert alarms(ROWS, state_after([CHAMPION, made]), decided=32 * DAY) == []


def test_a_candidate_that_its_time_had_brought_is_none_for_drift() -> None:
    made = entry(2, Action.REJECT, parent=1, label_watermark=31 * DAY)
    found = alarms(ROWS, state_after([CHAMPION, made]), decided=31 * DAY)
    assert [one.end for one in found] == [32 * DAY, 33 * DAY]


def test_the_new_champion_is_judged_by_its_own_buckets() -> None:
    made = entry(2, Action.PROMOTE, parent=1, cause="drift", label_watermark=32 * DAY)
    now = state_after([CHAMPION, made])
    assert alarms(ROWS, now, decided=32 * DAY) == []
    theirs = [row._replace(version=2) for row in ROWS]
    assert [one.end for one in alarms(theirs, now, decided=32 * DAY)] == [33 * DAY]


class Follower:
    """`P.drift`, as far as it was written."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self.found: list[SourceRecord] = []

    async def start(self) -> None:
        """Connected already."""

    async def stop(self) -> None:
        """Nothing to leave."""

    async def poll(self, timeout: float) -> list[SourceRecord]:
        found, self.found = self.found, []
        return found

    async def ends(self, topic: str) -> dict[int, int]:
        assert topic == PIPELINE.topics.scored
        return {0: 9, 1: 0}

    async def caught_up(self) -> bool:
        return not self.found


Watching = Callable[[Drift], tuple[DriftWatch, Follower]]


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Watching:
    async def read(*_: Any) -> LedgerState:
        return state_after([CHAMPION])

    monkeypatch.setattr(drift_watch, "read_state", read)
    monkeypatch.setattr(drift_watch, "TopicFollower", Follower)

    def made(policy: Drift) -> tuple[DriftWatch, Follower]:
        pipeline = replace(PIPELINE, policies=Policies(drift=policy))
        watch = DriftWatch(Settings(), pipeline)
        return watch, watch._follower  # type: ignore[return-value]

    return made


async def test_the_watch_looks_when_a_bucket_has_ended(watching: Watching) -> None:
    watch, topic = watching(Drift())
    assert await watch.look(0.0) is None
    topic.found = [record(day(30))]
    assert await watch.look(0.0) == []
    topic.found = [record(day(31, 5.0))]
    assert await watch.look(0.0) == []
    topic.found = [record(day(31, 5.0))]
    assert await watch.look(0.0) is None
    topic.found = [record(day(32))]
    with capture_logs() as logs:
        [alarm] = await watch.look(0.0) or []
    assert alarm.end == 32 * DAY
    assert [(line["event"], line["version"]) for line in logs] == [("drift", 1)]
    watch.look_again()
    with capture_logs() as logs:
        assert await watch.look(32 * DAY) == []
    assert logs == []


async def test_metrics_tell_of_the_latest_bucket(watching: Watching) -> None:
    watch, topic = watching(Drift())
    topic.found = [record(day(30)), record(day(31, 5.0)), record(day(32))]
    await watch.look(0.0)

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"pipeline": "orders", **labels}) or math.nan

    assert value("driftloop_drift_ratio") > 1
    assert value("driftloop_drift_alarms") == 1
    assert value("driftloop_drift_stability_index", column="amount") > 0.5
    assert value("driftloop_drift_stability_index", column="web") < 0.5


async def test_a_policy_may_leave_it_at_telling(watching: Watching) -> None:
    watch, topic = watching(Drift(retrain=False))
    topic.found = [record(day(30)), record(day(31, 5.0)), record(day(32))]
    with capture_logs() as logs:
        assert await watch.look(0.0) == []
    assert [line["event"] for line in logs] == ["drift"]
