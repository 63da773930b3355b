"""Committed offsets that go back are the broker's mistake: nothing starts from them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from streams.engine import committed as offsets
from streams.engine.committed import CommittedOffsets
from streams.ports.batches import TopicPartition

EVENTS = TopicPartition("events", 0)


class Coordinator:
    """Answers with its next answer, and with the last for ever."""

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers)

    async def ask(self, partitions: set[TopicPartition]) -> Mapping[TopicPartition, int | None]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return dict.fromkeys(partitions, answer)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "_WAIT_SECONDS", 0.0)


@pytest.mark.parametrize("first", [None, 0, 7])
async def test_what_the_broker_says_first_is_taken(first: int | None) -> None:
    assert await CommittedOffsets(Coordinator(first).ask).find({EVENTS}) == {EVENTS: first}


@pytest.mark.parametrize("old", [None, 0, 6])
async def test_what_went_back_is_asked_again_until_it_is_there(
    old: int | None,
) -> None:
    broker = Coordinator(old, old, 7)
    committed = CommittedOffsets(broker.ask)
    committed.acknowledge({EVENTS: 7})
    assert await committed.find({EVENTS}) == {EVENTS: 7}
    assert broker.answers == [7]


async def test_what_was_told_is_remembered_as_what_was_committed_is() -> None:
    committed = CommittedOffsets(Coordinator(7, 5).ask)
    assert await committed.find({EVENTS}) == {EVENTS: 7}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await committed.find({EVENTS})


async def test_an_older_commit_makes_it_forget_nothing() -> None:
    committed = CommittedOffsets(Coordinator(6).ask)
    committed.acknowledge({EVENTS: 7})
    committed.acknowledge({EVENTS: 6})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await committed.find({EVENTS})


async def test_what_others_committed_meanwhile_is_taken() -> None:
    committed = CommittedOffsets(Coordinator(9).ask)
    committed.acknowledge({EVENTS: 7})
    assert await committed.find({EVENTS}) == {EVENTS: 9}
