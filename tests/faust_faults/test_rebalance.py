"""A rebalance: what is done is committed first, what is not is read again, and none waits long."""

from __future__ import annotations

import asyncio

import pytest

from streams.testing.broker import MemoryBroker
from tests.faust_faults.subjects import EVENTS, Violation, must, must_come, running, spec
from tests.waiting import until


@spec("A4: acknowledgements are dropped before the last commit")
async def test_what_is_done_is_committed_before_the_partition_goes(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    broker.write(EVENTS, [0, 1, 2])
    async with running(
        kind, broker, monkeypatch, transaction_ms=60_000.0, commit_ms=60_000.0
    ) as subject:
        await until(lambda: len(subject.job.done) == 3)
        assert subject.committed == 0
        await subject.rebalance()
        must(subject.committed == 3, "commit what was done")


@spec("A10: a delivery that a suspension cut off counts as read")
async def test_what_a_suspension_cut_off_is_delivered_afterwards(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        consumer, flow = subject.app.consumer, subject.app.flow_control
        flow.suspend()
        broker.write(EVENTS, [0, 1])
        await until(lambda: broker.position(EVENTS) == 2)
        await asyncio.sleep(0.02)
        consumer.stop_flow()
        await asyncio.sleep(0.02)
        flow.resume()
        consumer.resume_flow()
        broker.write(EVENTS, [2])
        await until(lambda: b"2" in subject.job.done)
        await must_come(lambda: {b"0", b"1"} <= set(subject.job.done), "deliver what was cut off")


@spec("A12: it is not sought back where nothing is committed yet")
async def test_what_a_fetch_brings_in_the_middle_of_a_rebalance_is_read_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        await subject.rebalance(between=lambda: broker.write(EVENTS, [0, 1]))
        broker.write(EVENTS, [2])
        await until(lambda: b"2" in subject.job.done)
        await must_come(lambda: {b"0", b"1"} <= set(subject.job.done), "read them again")


@spec("A11: the rebalance waits for the agent, however long that takes")
async def test_a_slow_record_does_not_hold_the_rebalance_up_and_is_not_committed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        subject.job.hold(b"0")
        broker.write(EVENTS, [0])
        await until(lambda: b"0" in subject.job.seen)
        try:
            async with asyncio.timeout(1.0):  # the session is 0.9 s
                await subject.broker.rebalance({EVENTS})
        except TimeoutError:
            raise Violation("let the partition go within the session") from None
        must(not subject.lost, "leave it uncommitted")
