"""The policy of the roll-out: each step forwards, each way back, and when it stands still."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streams.ledger.state import LedgerState, Stage
from streams.records import Action
from streams.spec import RollOut
from tests.models import manifest
from tests.synthetic import pipeline
from workers.releases.rollout import StageEvidence, decide

DAY = 86_400.0
POLICY = RollOut(holdout=0.1)
GOOD = (-0.004, 0.001)
OPEN = (-0.03, 0.03)
ON_ITS_WAY = [Stage.SHADOW, Stage.CANARY, Stage.WATCH]


def at(stage: Stage, share: float = 0.0, **fields: Any) -> LedgerState:
    champion, previous = (2, 1) if stage is Stage.WATCH else (1, 0)
    versions = {version: manifest(pipeline, version, b"") for version in (1, 2)}
    state = LedgerState(champion, previous, versions=versions, challenger=2, since=DAY)
    return replace(state, stage=stage, share=share, length=5, **fields)


def seen(**fields: Any) -> StageEvidence:
    after_four_days = StageEvidence(2, DAY, 5000, 5 * DAY, GOOD)
    return replace(after_four_days, **fields)


@pytest.mark.parametrize(
    ("state", "action", "share"),
    [
        (at(Stage.CANDIDATE), Action.SHADOW, 0.0),
        (at(Stage.SHADOW), Action.CANARY, 0.01),
        (at(Stage.CANARY, 0.01), Action.CANARY, 0.05),
        (at(Stage.CANARY, 0.05), Action.CANARY, 0.25),
        (at(Stage.CANARY, 0.25), Action.PROMOTE, 0.9),
        (at(Stage.WATCH, 0.9), Action.SETTLE, 1.0),
    ],
)
def test_what_is_proven_harmless_goes_one_step_further(
    state: LedgerState, action: Action, share: float
) -> None:
    found = decide(POLICY, state, seen(), 5 * DAY)
    assert found is not None
    assert (found.action, found.version, found.share) == (action, 2, share)


def test_the_watch_ends_in_time_for_the_next_version() -> None:
    waiting = at(Stage.WATCH, 0.9, waiting=3)
    found = decide(POLICY, waiting, seen(interval=OPEN), 5 * DAY)
    assert found is not None
    assert (found.action, found.version, found.share) == (Action.SETTLE, 2, 1.0)
    assert "version 3 waits" in found.reason
    assert decide(POLICY, waiting, seen(interval=OPEN), 3 * DAY) is None, "too early"
    bad = decide(POLICY, waiting, seen(interval=(0.001, 0.1)), 5 * DAY)
    assert bad is not None
    assert bad.action is Action.ROLLBACK
    shadow = at(Stage.SHADOW, waiting=3)
    assert decide(POLICY, shadow, seen(interval=OPEN), 5 * DAY) is None


@pytest.mark.parametrize("stage", ON_ITS_WAY)
@pytest.mark.parametrize(
    ("evidence", "now"),
    [
        (seen(labelled=999), 5 * DAY),
        (seen(interval=OPEN), 5 * DAY),
        (seen(latest_label=1.5 * DAY), 1.9 * DAY),
        (seen(since=0.0), 5 * DAY),
        (seen(version=3), 5 * DAY),
        (seen(since=0.0, failed=("constant",)), 5 * DAY),
    ],
    ids=["few labels", "open", "too early", "of another stage", "of another", "guard of another"],
)
def test_it_stays_where_it_is(stage: Stage, evidence: StageEvidence, now: float) -> None:
    assert decide(POLICY, at(stage, 0.01), evidence, now) is None


@pytest.mark.parametrize("stage", ON_ITS_WAY)
@pytest.mark.parametrize("frozen", ["", "operator", "rollout"])
@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        (seen(failed=("every score is 0.5",), labelled=0), "every score is 0.5"),
        (seen(interval=(0.0001, 0.02)), "proven worse"),
        (seen(slices={"online": (0.02, 0.1)}), "proven harmful in online"),
        (seen(interval=(0.0001, 0.02), latest_label=0.0), "proven worse"),
    ],
)
def test_what_is_bad_is_taken_back_from_any_stage(
    stage: Stage, frozen: str, evidence: StageEvidence, why: str
) -> None:
    found = decide(POLICY, at(stage, frozen=frozen), evidence, 5 * DAY)
    assert found is not None
    assert why in found.reason
    expected = (Action.ROLLBACK, 1) if stage is Stage.WATCH else (Action.REJECT, 2)
    assert (found.action, found.version) == expected
    assert found.evidence["low"] == evidence.interval[0]


def test_a_slice_that_is_worse_by_less_than_harm_does_not_stop_it() -> None:
    found = decide(POLICY, at(Stage.SHADOW), seen(slices={"online": (0.001, 0.1)}), 5 * DAY)
    assert found is not None
    assert (found.action, found.evidence["low[online]"]) == (Action.CANARY, 0.001)


@pytest.mark.parametrize("stage", ON_ITS_WAY)
def test_no_feedback_freezes_and_feedback_thaws(stage: Stage) -> None:
    silent, state = seen(latest_label=3.9 * DAY), at(stage, 0.01)
    found = decide(POLICY, state, silent, 5 * DAY)
    assert found is not None
    assert found.action is Action.FREEZE
    frozen = state.after(found.entry(state, 5 * DAY, 0.0))
    assert (frozen.frozen, frozen.stage, frozen.share) == ("rollout", stage, 0.01)
    assert decide(POLICY, frozen, silent, 6 * DAY) is None
    found = decide(POLICY, frozen, seen(), 5.1 * DAY)
    assert found is not None
    assert found.action is Action.THAW
    assert frozen.after(found.entry(frozen, 5.1 * DAY, 0.0)).frozen == ""


def test_a_stage_that_has_just_begun_is_not_silent() -> None:
    assert decide(POLICY, at(Stage.SHADOW), seen(latest_label=0.0), 1.5 * DAY) is None


@pytest.mark.parametrize("stage", [Stage.CANDIDATE, *ON_ITS_WAY])
def test_what_an_operator_froze_goes_no_further_on_its_own(stage: Stage) -> None:
    assert decide(POLICY, at(stage, frozen="operator"), seen(), 5 * DAY) is None


def test_at_once_promotes_a_candidate_and_watches_nothing() -> None:
    state = at(Stage.CANDIDATE)
    found = decide(RollOut.at_once(), state, StageEvidence(2, DAY), 2 * DAY)
    assert found is not None
    assert found.action is Action.PROMOTE
    now = state.after(found.entry(state, 2 * DAY, 0.0))
    assert (now.champion, now.stage) == (2, Stage.NONE)


def test_the_first_version_has_nothing_to_be_compared_with() -> None:
    state = replace(at(Stage.CANDIDATE), champion=0)
    found = decide(POLICY, state, StageEvidence(2, DAY), 2 * DAY)
    assert found is not None
    assert (found.action, found.version) == (Action.PROMOTE, 2)


def test_nothing_is_decided_while_no_version_is_on_its_way() -> None:
    assert decide(POLICY, LedgerState(champion=1), seen(), 5 * DAY) is None


def test_an_entry_says_what_it_was_decided_on() -> None:
    state = at(Stage.CANARY, 0.25)
    found = decide(POLICY, state, seen(), 5 * DAY)
    assert found is not None
    entry = found.entry(state, 5 * DAY, 123.0)
    assert (entry.previous, entry.by, entry.decided_on) == (1, "rollout", 5)
    assert (entry.event_time, entry.at, entry.share) == (5 * DAY, 123.0, 0.9)
    assert entry.manifest == state.versions[2]
    assert entry.threshold == state.versions[2].threshold
    assert entry.evidence == {"labelled": 5000.0, "low": -0.004, "high": 0.001}


def test_the_error_is_split_over_steps_and_intervals() -> None:
    assert POLICY.step_confidence() == pytest.approx(0.99)
    assert POLICY.step_confidence(intervals=5) == pytest.approx(0.998)
