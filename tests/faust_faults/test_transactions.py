"""exactly_once: whole batches, their outputs and their offsets, in one transaction a partition."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError, ProducerFenced
from faust.types import TP

from streams.testing.broker import Fault, MemoryBroker
from tests.faust_faults.subjects import EVENTS, running
from tests.waiting import until

OTHER = TP(EVENTS.topic, 1)
KIND = "exactly_once"


async def never() -> None:
    await asyncio.Event().wait()


async def test_outputs_and_offsets_of_whole_batches_are_in_one_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    async with running(KIND, broker, monkeypatch) as subject:
        for start in range(0, 40, 10):
            broker.write(EVENTS, range(start, start + 10))
            await asyncio.sleep(0.01)
        await until(lambda: subject.committed == 40)
    before = 0
    for records, offsets in broker.transactions:
        assert offsets == {EVENTS: before + records}
        before += records
    assert len(broker.transactions) < 40
    assert [value for _, value in broker.output] == [b"%d" % n for n in range(40)]


async def test_each_input_partition_has_one_transactional_id_and_taking_over_fences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    async with running(KIND, broker, monkeypatch) as subject:
        await subject.rebalance({EVENTS, OTHER})
        group = subject.app.work.group
        assert broker.epochs == {f"{group}-0": 2, f"{group}-1": 1}
        first = next(p for p in broker.producers if p.transactional_id == f"{group}-0")
        await first.begin_transaction()
        with pytest.raises(ProducerFenced):
            await first.commit_transaction()


@pytest.mark.parametrize("operation", ["send", "send_offsets", "end"])
@pytest.mark.parametrize("fault", [KafkaConnectionError(), never], ids=["error", "no answer"])
async def test_after_a_fault_the_producer_is_discarded_and_nothing_is_lost_or_doubled(
    monkeypatch: pytest.MonkeyPatch, operation: str, fault: Fault
) -> None:
    broker = MemoryBroker()
    broker.faults[operation] = [fault]
    async with running(KIND, broker, monkeypatch, transaction_timeout_ms=200) as subject:
        broker.write(EVENTS, range(3))
        await until(lambda: subject.committed == 3)
        assert [value for _, value in broker.output] == [b"0", b"1", b"2"]
        old, new = [p for p in broker.producers if p.transactional_id]
        assert (old.stopped, new.stopped) == (True, False)
        assert not subject.ended


async def test_a_commit_that_was_made_but_not_answered_is_not_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    broker.faults["answer"] = [never]
    async with running(KIND, broker, monkeypatch, transaction_timeout_ms=200) as subject:
        broker.write(EVENTS, range(3))
        await until(lambda: len(broker.producers) == 3)  # Faust's own, and two of the lane's
        broker.write(EVENTS, range(3, 5))
        await until(lambda: subject.committed == 5)
        assert [value for _, value in broker.output] == [b"%d" % n for n in range(5)]
        assert not subject.ended
