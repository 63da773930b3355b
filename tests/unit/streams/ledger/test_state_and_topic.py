"""What the ledger says, folded from its entries; how versions are kept and rolled back."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest
import structlog
from aiokafka import ConsumerRecord

from streams.errors import ConfigurationError
from streams.kafka.reading import TopicFollower
from streams.ledger import topic
from streams.ledger.state import LedgerState, state_after
from streams.ledger.topic import LedgerFollower, decode, new_entry
from streams.records import Action, LedgerEntry, decoder, encode
from streams.settings import Settings
from streams.spec import Decision, Pipeline
from tests.models import manifest
from tests.synthetic import pipeline
from workers.releases.lifecycle import rollback_target


def said(
    action: Action, version: int, *, threshold: float = 0.3, watermark: float = 0.0
) -> LedgerEntry:
    made = manifest(pipeline, version, b"", threshold=threshold, label_watermark=watermark)
    return new_entry(action, made, LedgerState(), "why")


def test_nothing_serves_at_first() -> None:
    assert state_after([]) == LedgerState(champion=0, previous=0, threshold=0.5)


def test_the_last_promotion_names_the_champion() -> None:
    now = state_after(
        [said(Action.PROMOTE, 1), said(Action.PROMOTE, 2, threshold=0.7), said(Action.REJECT, 3)]
    )
    assert (now.champion, now.previous, now.threshold) == (2, 1, 0.7)
    assert sorted(now.versions) == [1, 2, 3]
    assert now.manifest is not None
    assert now.manifest.version == 2


def test_a_rollback_brings_back_version_and_threshold() -> None:
    history = [said(Action.PROMOTE, v, threshold=v / 10) for v in (1, 2, 3)]
    now = state_after([*history, said(Action.ROLLBACK, 2, threshold=0.2)])
    assert (now.champion, now.previous, now.threshold) == (2, 3, 0.2)
    assert now.promoted == (1, 3, 2)


def test_rolling_back_again_goes_further_back() -> None:
    now = state_after([said(Action.PROMOTE, v) for v in (1, 2, 3)])
    targets = []
    for _ in range(2):
        targets.append(rollback_target(now))
        now = now.after(said(Action.ROLLBACK, targets[-1]))
    assert targets == [2, 1]
    with pytest.raises(ConfigurationError, match="no earlier version"):
        rollback_target(now)


def test_a_version_that_was_rolled_back_is_no_target_until_it_is_promoted_again() -> None:
    now = state_after(
        [
            *(said(Action.PROMOTE, v) for v in (3, 4)),
            said(Action.ROLLBACK, 3),
            said(Action.PROMOTE, 5),
        ]
    )
    assert (sorted(now.rolled_back), rollback_target(now)) == ([4], 3)
    now = state_after([said(Action.PROMOTE, 4), said(Action.PROMOTE, 5)]).after(
        said(Action.ROLLBACK, 4)
    )
    again = now.after(said(Action.PROMOTE, 5)).after(said(Action.PROMOTE, 6))
    assert sorted(now.rolled_back) == [5]
    assert (sorted(again.rolled_back), rollback_target(again)) == ([], 5)


def test_the_ledger_says_which_operator_acted_and_where() -> None:
    made = manifest(pipeline, 1, b"")
    entry = new_entry(Action.PROMOTE, made, LedgerState(), "why", by="operator")
    assert entry.by == "operator"
    assert entry.who.endswith(f"@{socket.gethostname()}")
    assert said(Action.PROMOTE, 1).who == ""


def test_what_is_no_entry_is_passed_over() -> None:
    good = encode(said(Action.PROMOTE, 4))
    values = [None, b"{", b"", b"[]", good, good.replace(b'"promote"', b'"celebrate"'), b"\xff"]
    records = [
        ConsumerRecord("p.models", 0, i, 0, 0, None, value, None, 0, 0, ())
        for i, value in enumerate(values)
    ]
    with structlog.testing.capture_logs() as lines:
        assert [entry.version for entry in decode(records)] == [4]
    assert [line["offset"] for line in lines] == [1, 2, 3, 5, 6]


def test_every_decision_moves_the_watermark_and_none_moves_it_back() -> None:
    entries = [
        said(Action.PROMOTE, 1, watermark=10.0),
        said(Action.REJECT, 2, watermark=30.0),
        said(Action.INCONCLUSIVE, 3, watermark=20.0),
    ]
    assert [state_after(entries[:n]).decided for n in range(4)] == [0.0, 10.0, 30.0, 30.0]


def test_the_champion_and_those_before_it_are_kept() -> None:
    now = state_after([*(said(Action.PROMOTE, v) for v in (1, 2, 3, 4)), said(Action.ROLLBACK, 2)])
    assert now.kept(2) == [3, 2], "not what was rolled back"
    assert LedgerState().kept(2) == []


def test_both_that_are_compared_are_kept() -> None:
    now = state_after([said(Action.PROMOTE, v) for v in (1, 2)])
    for action in (Action.CANDIDATE, Action.SHADOW):
        now = now.after(said(action, 3))
    assert now.kept(2) == [1, 2, 3]
    assert now.after(said(Action.REJECT, 3)).kept(2) == [1, 2]


def test_an_entry_survives_its_way_through_the_topic() -> None:
    before = said(Action.PROMOTE, 4)
    assert decoder(LedgerEntry).decode(encode(before)) == before


def test_folding_changes_nothing_that_was() -> None:
    now = state_after([said(Action.PROMOTE, 1)])
    versions = dict(now.versions)
    now.after(said(Action.PROMOTE, 2))
    assert now.versions == versions


class TestFollower:
    """What scoring sees; no connection is made before `start`."""

    def follower(self, declared: Pipeline, *entries: LedgerEntry) -> LedgerFollower:
        found = LedgerFollower(Settings(kafka="nowhere:1"), declared)
        found.take(entries)
        return found

    def test_the_champion_serves_with_its_threshold(self) -> None:
        found = self.follower(pipeline, said(Action.PROMOTE, 1, threshold=0.25))
        assert (found.version, found.threshold) == (1, 0.25)

    def test_what_is_asked_is_the_champion_and_both_that_are_compared(self) -> None:
        ours, other = [said(Action.PROMOTE, v) for v in (1, 2)], said(Action.CANDIDATE, 3)
        assert self.follower(pipeline).served == ()
        assert self.follower(pipeline, *ours, other).served == (2,)
        shadow = self.follower(pipeline, *ours, other, said(Action.SHADOW, 3))
        assert shadow.served == (2, 3)
        watched = self.follower(
            pipeline,
            *ours,
            other,
            said(Action.SHADOW, 3),
            msgspec.structs.replace(said(Action.PROMOTE, 3), by="rollout"),
        )
        assert watched.served == (3, 2)
        back = self.follower(pipeline, *ours, said(Action.ROLLBACK, 1))
        assert back.served == (1,)

    def test_who_serves_nothing_is_told_of_changes_instead(self) -> None:
        changes: list[int] = []
        found = LedgerFollower(Settings(kafka="nowhere:1"), pipeline, lambda: changes.append(1))
        with structlog.testing.capture_logs() as logs:
            found.take([said(Action.PROMOTE, 1)])
        assert (len(changes), found.state.champion, logs) == (1, 1, [])

    def test_the_pipelines_own_threshold_wins(self) -> None:
        strict = _with_threshold(0.9)
        found = self.follower(strict, said(Action.PROMOTE, 1, threshold=0.25))
        assert (found.version, found.threshold) == (1, 0.9)

    async def test_an_error_that_nobody_foresaw_is_said_once_and_following_goes_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = LedgerFollower(Settings(kafka="nowhere:1"), pipeline)
        polls = iter([ValueError("odd")] * 3 + [None])
        seen = asyncio.Event()

        async def poll(*_: object) -> list[object]:
            if (error := next(polls, None)) is not None:
                raise error
            seen.set()
            await asyncio.sleep(60)
            return []

        async def nothing(*_: object) -> list[object]:
            return []

        monkeypatch.setattr(topic, "_AGAIN", 0.001)
        for name in ("start", "stop", "read_to_end"):
            monkeypatch.setattr(TopicFollower, name, nothing)
        monkeypatch.setattr(TopicFollower, "poll", poll)
        with structlog.testing.capture_logs() as lines:
            await found.start()
            await asyncio.wait_for(seen.wait(), 10)
            await found.stop()
        first, *others = lines
        assert first["event"].startswith("no version serves yet")
        assert [line["error"] for line in others] == ["ValueError('odd')"]

    def test_a_champion_of_other_features_does_not_serve(self) -> None:
        other = said(Action.PROMOTE, 1)
        assert other.manifest is not None
        odd = msgspec.structs.replace(other.manifest, schema_hash="other", columns={})
        found = self.follower(pipeline, msgspec.structs.replace(other, manifest=odd))
        assert found.version == 0
        assert found.state.champion == 1


def _with_threshold(threshold: float) -> Pipeline:
    return Pipeline(
        name=pipeline.name,
        event=pipeline.event,
        features=pipeline.features,
        model=pipeline.model,
        feedback=pipeline.feedback,
        decision=Decision(threshold=threshold),
    )
