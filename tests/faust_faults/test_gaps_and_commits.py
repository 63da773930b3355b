"""What is committed: all that is done, up to the first record that is not."""

from __future__ import annotations

import pytest
from aiokafka.errors import CommitFailedError, KafkaConnectionError

from streams.testing.broker import MemoryBroker
from tests.faust_faults.applications import Stock
from tests.faust_faults.subjects import EVENTS, OURS, must, must_come, running, spec
from tests.waiting import until


@spec("A1: with concurrency > 1 the record after the committed offset may be passed")
async def test_a_record_in_hand_is_not_committed_whatever_is_done_after_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    broker.write(EVENTS, [0])
    async with running(kind, broker, monkeypatch, stock=Stock(concurrency=2)) as subject:
        await until(lambda: subject.job.done == [b"0"])
        await subject.commit()
        assert subject.committed == 1
        subject.job.hold(b"1")
        broker.write(EVENTS, [1, 2, 3])
        await until(lambda: b"1" in subject.job.seen)
        if not subject.ours:  # ours takes them in order
            await until(lambda: b"3" in subject.job.done)
        await subject.commit()
        must(not subject.lost, "commit no record in hand")


@spec("A2: the record after a gap counts as acknowledged")
async def test_a_gap_is_committed_and_the_record_after_it_is_not(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch, stock=Stock(concurrency=2)) as subject:
        subject.job.hold(b"4")
        broker.write(EVENTS, [0, 1, 4, 5])  # 2 and 3 are transaction markers, say
        await until(lambda: b"4" in subject.job.seen)
        if not subject.ours:
            await until(lambda: b"5" in subject.job.done)
        await subject.commit()
        must(not subject.lost, "commit up to the gap's end, not the record there")


@spec("A3: a gap right after offset 0 is not recorded: the commit sticks at 1 for ever")
async def test_a_gap_after_the_first_offset_does_not_stop_the_commits(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    broker.write(EVENTS, [0, 3, 4])
    async with running(kind, broker, monkeypatch) as subject:
        await until(lambda: subject.job.done == [b"0", b"3", b"4"])
        await subject.commit()
        broker.write(EVENTS, [5])
        await until(lambda: b"5" in subject.job.done)
        await subject.commit()
        must(subject.committed == 6, f"commit what is done, not up to {subject.committed}")


@spec("A8: what failed to be committed counts as committed")
async def test_a_refused_commit_is_made_again_or_ends_the_lane(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    refused = CommitFailedError("the group has already rebalanced")
    broker.faults = {"commit": [refused], "end": [KafkaConnectionError()]}
    async with running(kind, broker, monkeypatch) as subject:
        broker.write(EVENTS, [0, 1, 2])
        await until(lambda: len(subject.job.done) == 3)
        await subject.commit()
        assert broker.faults["end" if kind == "exactly_once" else "commit"] == []
        await subject.commit()  # aiokafka joins again, but not before it gets to it
        await must_come(
            lambda: subject.committed == 3 or subject.working == 0,
            "commit again, or leave it to the partition's next owner",
        )
        await subject.rebalance()
        await until(lambda: subject.committed == 3)
        assert not subject.ended


@pytest.mark.parametrize("kind", OURS)
async def test_a_commit_that_kafka_did_not_answer_is_made_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    broker.faults = {"commit": [KafkaConnectionError()], "end": [KafkaConnectionError()]}
    async with running(kind, broker, monkeypatch) as subject:
        broker.write(EVENTS, [0, 1, 2])
        await until(lambda: len(subject.job.done) == 3)
        await subject.commit()
        await must_come(lambda: subject.committed == 3, "commit again", within=3.0)
        assert not subject.ended
