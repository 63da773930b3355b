"""What the ledger says of a version on its way, to this code and to workers that are older."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
import pytest

from streams.ledger.state import LedgerState, Stage, state_after
from streams.records import Action, LedgerEntry, Manifest, decoder, encode
from tests.models import manifest
from tests.synthetic import pipeline

WAY = (Action.CANDIDATE, Action.SHADOW, Action.CANARY)


def said(action: Action, version: int, **fields: Any) -> LedgerEntry:
    by = fields.pop("by", "rollout")
    made = manifest(pipeline, version, b"", threshold=version / 10)
    return LedgerEntry(action, version, 0, 1.0, "why", by, made.threshold, made, **fields)


FIRST = said(Action.PROMOTE, 1, by="gate")


class OldAction(StrEnum):
    PROMOTE = "promote"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"
    ROLLBACK = "rollback"


class OldEntry(msgspec.Struct, frozen=True):
    """An entry as version 0.1.0 knows it."""

    action: OldAction
    version: int
    previous: int
    at: float
    reason: str
    by: str
    threshold: float
    manifest: Manifest | None = None
    who: str = ""


def readable(entry: LedgerEntry) -> bool:
    try:
        decoder(OldEntry).decode(encode(entry))
    except msgspec.ValidationError:
        return False
    return True


def test_an_older_worker_passes_over_every_step_but_those_that_change_the_champion() -> None:
    seen = [action for action in Action if readable(said(action, 2, share=0.05, decided_on=3))]
    assert seen == ["promote", "reject", "inconclusive", "rollback"]


def test_an_entry_of_an_older_worker_says_what_it_said() -> None:
    old = [
        OldEntry(OldAction.PROMOTE, 1, 0, 1.0, "why", "gate", 0.1),
        OldEntry(OldAction.PROMOTE, 2, 1, 2.0, "why", "gate", 0.2),
        OldEntry(OldAction.REJECT, 3, 2, 3.0, "why", "gate", 0.3),
        OldEntry(OldAction.ROLLBACK, 1, 2, 4.0, "why", "operator", 0.1),
    ]
    read = [decoder(LedgerEntry).decode(encode(entry)) for entry in old]
    assert [one.decided_on for one in read] == [None] * 4
    assert state_after(read) == LedgerState(
        champion=1,
        previous=2,
        threshold=0.1,
        promoted=(2, 1),
        rolled_back=frozenset({2}),
        length=4,
    )


@pytest.mark.parametrize("steps", range(1, 4))
def test_the_champion_stays_until_the_promotion(steps: int) -> None:
    way = [said(action, 2, share=0.05 * (action is Action.CANARY)) for action in WAY[:steps]]
    now = state_after([FIRST, *way])
    assert (now.champion, now.incumbent, now.threshold) == (1, 1, 0.1)
    assert (now.challenger, now.stage.value) == (2, WAY[steps - 1].value)
    assert now.share == (0.05 if steps == 3 else 0.0)


def test_a_promotion_from_the_canary_is_watched_and_settles() -> None:
    way = [said(action, 2, share=0.25) for action in WAY]
    now = state_after([FIRST, *way, said(Action.PROMOTE, 2, share=0.9, event_time=50.0)])
    assert (now.champion, now.challenger, now.incumbent) == (2, 2, 1)
    assert (now.stage, now.share, now.since) == (Stage.WATCH, 0.9, 50.0)
    done = now.after(said(Action.SETTLE, 2))
    assert (done.champion, done.challenger, done.stage, done.share) == (2, 0, Stage.NONE, 0.0)
    back = now.after(said(Action.ROLLBACK, 1))
    assert (back.champion, back.challenger, back.stage) == (1, 0, Stage.NONE)
    assert back.rolled_back == {2}


@pytest.mark.parametrize(("action", "version"), [(Action.PROMOTE, 2), (Action.PROMOTE, 3)])
def test_an_operators_promotion_ends_the_roll_out(action: Action, version: int) -> None:
    way = [said(action, 2, share=0.25) for action in WAY]
    now = state_after([FIRST, *way, said(action, version, by="operator")])
    assert (now.champion, now.challenger, now.stage) == (version, 0, Stage.NONE)


def test_the_gates_verdict_on_another_leaves_the_roll_out_as_it_is() -> None:
    now = state_after([FIRST, *(said(action, 2) for action in WAY)])
    after = now.after(said(Action.REJECT, 3, by="gate"))
    assert (after.challenger, after.stage) == (2, Stage.CANARY)


def test_the_latest_candidate_waits_for_the_end_of_the_roll_out() -> None:
    way = [said(action, 2) for action in WAY]
    now = state_after([FIRST, *way, said(Action.CANDIDATE, 3), said(Action.CANDIDATE, 4)])
    assert (now.challenger, now.waiting) == (2, 4)
    after = now.after(said(Action.REJECT, 2))
    assert (after.challenger, after.stage, after.waiting) == (4, Stage.CANDIDATE, 0)
    assert now.after(said(Action.REJECT, 4)).waiting == 0


def test_a_newer_candidate_replaces_one_that_has_not_begun() -> None:
    now = state_after([FIRST, said(Action.CANDIDATE, 2), said(Action.CANDIDATE, 3)])
    assert (now.challenger, now.stage, now.waiting) == (3, Stage.CANDIDATE, 0)


def test_what_an_operator_froze_stays_frozen_when_the_roll_out_ends() -> None:
    now = state_after([FIRST, *(said(action, 2) for action in WAY)])
    for by, left in (("operator", "operator"), ("rollout", "")):
        frozen = now.after(said(Action.FREEZE, 2, by=by))
        assert frozen.frozen == by
        assert frozen.after(said(Action.REJECT, 2)).frozen == left
        assert frozen.after(said(Action.THAW, 2)).frozen == ""


class TestDecidedOn:
    """Of two entries that were decided on the same state the first counts."""

    now = state_after([FIRST, said(Action.CANDIDATE, 2), said(Action.SHADOW, 2, decided_on=2)])

    def test_a_second_entry_on_the_same_state_counts_for_nothing(self) -> None:
        first = self.now.after(said(Action.CANARY, 2, share=0.01, decided_on=3))
        assert first.length == 4
        assert first.after(said(Action.REJECT, 2, decided_on=3)) == first
        assert first.after(said(Action.PROMOTE, 2, decided_on=3)) == first

    def test_a_repeated_entry_counts_once(self) -> None:
        entry = said(Action.CANARY, 2, share=0.01, decided_on=3)
        assert self.now.after(entry).after(entry) == self.now.after(entry)

    def test_any_entry_makes_what_was_decided_before_it_stale(self) -> None:
        after = self.now.after(said(Action.REJECT, 9, by="gate"))
        assert after.after(said(Action.CANARY, 2, share=0.01, decided_on=3)) == after

    def test_an_operators_entry_counts_in_any_case(self) -> None:
        after = self.now.after(said(Action.PROMOTE, 1, by="operator"))
        assert (after.champion, after.challenger) == (1, 0)

    def test_who_passed_over_an_action_believes_those_who_knew_it(self) -> None:
        """The entry in between is of an action that this reader does not know."""
        after = self.now.after(said(Action.CANARY, 2, share=0.01, decided_on=4))
        assert (after.share, after.length) == (0.01, 5)


def test_an_entry_survives_its_way_with_share_and_evidence() -> None:
    entry = said(Action.CANARY, 2, share=0.05, evidence={"low": -0.1}, event_time=7.5, decided_on=3)
    assert decoder(LedgerEntry).decode(encode(entry)) == entry
