"""The parts of the fault run that are pure: its schedule, its crash points, its report."""

from __future__ import annotations

from collections import Counter

import pytest

from streams.engine.writers import TransactionalWriter
from tests.faults import crash_points
from tests.faults.judge import OFFENCES
from tests.faults.report import Recovery, Report
from tests.faults.schedule import POINTS, ROUND, Kind, schedule


def test_a_seed_names_a_schedule() -> None:
    assert schedule(7, 60) == schedule(7, 60)
    assert schedule(7, 60) != schedule(8, 60)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_comes_in_each_round(seed: int) -> None:
    once = len(ROUND)
    faults = schedule(seed, 3 * once)
    assert len(faults) == 3 * once
    for start in range(0, 3 * once, once):
        counts = Counter(fault.kind for fault in faults[start : start + once])
        assert set(counts) == set(Kind)


def test_a_stopped_process_stays_so_until_others_have_noticed() -> None:
    stops = {Kind.score_stop, Kind.label_stop, Kind.trainer_stop}
    lasting = [fault.lasts for fault in schedule(1, 200, session=6.0) if fault.kind in stops]
    assert min(lasting) > 6.0


def test_a_countdown_crashes_at_its_pass() -> None:
    passed = []
    count = crash_points.countdown(3, lambda: passed.append("crash"))
    count()
    count()
    assert not passed
    count()
    assert passed == ["crash"]


@pytest.mark.parametrize("point", sorted(POINTS))
def test_every_point_can_be_installed(point: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped: list[tuple[type, str]] = []

    def note(owner: type, name: str, value: object) -> None:
        assert callable(getattr(owner, name))
        wrapped.append((owner, name))

    monkeypatch.setattr(crash_points, "setattr", note, raising=False)
    crash_points.install(point, lambda: None)
    assert wrapped


async def test_a_point_before_a_commit_is_passed_before_it() -> None:
    story: list[str] = []

    class Lone(TransactionalWriter):
        async def commit(self) -> None:
            story.append("commit")

    crash_points._before(Lone, "commit", lambda: story.append("crash"))
    await Lone.commit(object.__new__(Lone))
    crash_points._after(Lone, "commit", lambda: story.append("after"))
    await Lone.commit(object.__new__(Lone))
    assert story == ["crash", "commit", "crash", "commit", "after"]


def test_a_kind_that_is_no_point_cannot_be_installed() -> None:
    with pytest.raises(ValueError, match="not a point"):
        crash_points.install(Kind.kafka_kill, lambda: None)


def sound() -> Report:
    """A report of a run in which nothing was broken."""
    verdict = {
        "counts": {"source": 10, "predicted": 8, "bad": 1, "repeated": 1, "dead letters": 1},
        "offences": dict.fromkeys(OFFENCES, 0),
        "named": {},
        "versions": {"1": 8},
        "sent": 10,
        "unacknowledged": 0,
    }
    return Report(1, "exactly_once", "run", "2026-01-01", [Kind.score_kill], verdict=verdict)


def test_a_sound_run_breaks_nothing() -> None:
    report = sound()
    report.recoveries = [Recovery("score-kill", 9.9, 10.0)]
    assert report.broken == []
    assert "| score-kill | 1 | 9.9 s | 9.9 s | 10 s |" in report.markdown()


def test_a_lost_event_breaks_a_guarantee_and_is_named() -> None:
    report = sound()
    report.verdict["offences"]["lost"] = 1
    report.verdict["named"]["lost"] = ["e17"]
    assert report.broken == ["1 lost (events without a prediction): e17"]


def test_a_late_recovery_breaks_a_guarantee() -> None:
    report = sound()
    report.recoveries = [Recovery("redis-kill", 5.1, 5.0)]
    assert report.broken == ["redis-kill: recovered after 5.1 s, the limit is 5 s"]
