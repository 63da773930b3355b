"""What Faust's consumer guards against, and ours must too, since it delivers by itself."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from streams.testing.broker import MemoryBroker
from tests.faust_faults.applications import Doing
from tests.faust_faults.subjects import EVENTS, OURS, Subject, running
from tests.waiting import until

OTHER = TP(EVENTS.topic, 1)
ours = pytest.mark.parametrize("kind", OURS)


async def drop_a_poll(subject: Subject) -> None:
    """A poll comes while the flow is stopped, as in the middle of a rebalance."""
    consumer = subject.app.consumer
    consumer.stop_flow()
    await consumer._deliver({})
    consumer.resume_flow()


@ours
async def test_what_is_polled_while_the_flow_is_stopped_is_fetched_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        consumer = subject.app.consumer
        consumer.stop_flow()
        broker.write(EVENTS, [0])
        await consumer._deliver({EVENTS: broker.log[EVENTS]})
        assert consumer._dropped
        assert subject.job.seen == []
        consumer.resume_flow()
        await until(lambda: subject.job.done == [b"0"])


@ours
async def test_a_fetch_gathers_at_the_broker_while_records_flow(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch, batch_wait_ms=7.0) as subject:

        def asked() -> tuple[Any, Any]:
            fetcher = broker.consumer
            return (
                getattr(fetcher, "_fetch_min_bytes", 0),
                getattr(fetcher, "_fetch_max_wait_ms", 0),
            )

        await until(lambda: asked() == (1, 500))
        broker.write(EVENTS, range(10))
        await until(lambda: asked() == (128 * subject.app.limits.batch_records, 7))
        await until(lambda: asked() == (1, 500))


@ours
async def test_a_seek_that_fails_in_a_rebalance_is_made_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        await drop_a_poll(subject)
        broker.faults["seek"] = [IllegalStateError("no such partition"), IllegalStateError("no")]
        broker.write(EVENTS, [0, 1])
        await until(lambda: subject.job.done == [b"0", b"1"])
        assert broker.faults["seek"] == []
        assert not subject.ended


@ours
async def test_a_worker_left_without_a_partition_goes_on(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        await broker.rebalance(set())
        await drop_a_poll(subject)
        await subject.rebalance()
        broker.write(EVENTS, [0])
        await until(lambda: subject.job.done == [b"0"])
        assert not subject.ended


@ours
async def test_records_of_a_partition_that_went_are_left_to_others(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        await subject.rebalance({EVENTS, OTHER})
        broker.write(OTHER, [0], {0: b"first"})
        await until(lambda: subject.job.done == [b"first"])
        await subject.rebalance({EVENTS})
        broker.write(OTHER, [1], {1: b"second"})
        await subject.app.consumer._deliver({OTHER: broker.log[OTHER][1:]})
        await asyncio.sleep(0.1)
        assert subject.job.seen == [b"first"]
        assert broker.committed == {OTHER: 1}


@ours
async def test_records_that_come_again_are_worked_on_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        broker.write(EVENTS, [0, 1])
        await until(lambda: subject.committed == 2)
        await subject.app.consumer._deliver({EVENTS: broker.log[EVENTS]})
        broker.write(EVENTS, [2])
        await until(lambda: subject.committed == 3)
        assert subject.job.seen == [b"0", b"1", b"2"]


@ours
async def test_a_lane_that_is_held_stops_its_fetches_and_loses_no_time_when_it_goes_on(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch, batch_records=4) as subject:
        subject.job.hold(b"0")
        broker.write(EVENTS, range(1000))
        await until(lambda: b"0" in subject.job.seen)
        await asyncio.sleep(0.3)
        assert broker.position(EVENTS) <= 200  # a few polls of 64
        subject.job.release()
        await until(lambda: len(subject.job.done) == 1000, "all done", within=0.9)


@ours
async def test_a_partition_that_was_paused_is_fetched_again_after_a_rebalance(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch, batch_records=4) as subject:
        subject.job.hold(b"0")
        broker.write(EVENTS, range(500))
        await until(lambda: EVENTS in subject.app.consumer._buffered_partitions)
        await subject.rebalance()
        subject.job.release()
        await until(lambda: subject.committed == 500)
        assert not subject.lost


async def test_a_worker_that_is_stopped_while_it_takes_partitions_over_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    async with running("exactly_once", broker, monkeypatch) as subject:
        broker.faults["start"] = [asyncio.Event().wait]
        joining = asyncio.create_task(broker.rebalance({EVENTS}))
        await until(lambda: not broker.faults["start"])
        async with asyncio.timeout(2.0):
            await subject.app.stop()
        await asyncio.wait([joining], timeout=1.0)
        assert all(p.stopped for p in broker.producers if p.transactional_id)


@ours
@pytest.mark.parametrize("error", [ValueError("no state"), asyncio.CancelledError()])
async def test_a_worker_that_cannot_take_partitions_over_ends(
    kind: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        monkeypatch.setattr(Doing, "open", AsyncMock(side_effect=error))
        await broker.rebalance({EVENTS})
        await until(lambda: subject.ended, "the worker ends")


@ours
async def test_the_livelock_detector_is_silent(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        broker.write(EVENTS, [0, 1])
        await until(lambda: subject.committed == 2)
        subject.app.consumer.verify_event_path(1e12, EVENTS)
        await subject.app.consumer.verify_all_partitions_active()
    assert [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")] == []


@ours
async def test_no_changelogs_no_timer_and_no_waiting_for_streams(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(
        kind, broker, monkeypatch, transaction_ms=60_000.0, commit_ms=60_000.0
    ) as subject:
        app = subject.app
        assert app.tables.changelog_topics == set()
        assert app.conf.stream_wait_empty is False
        assert (app.agents[app.work.group].concurrency, app.in_transaction) == (1, False)
        broker.write(EVENTS, [0])
        await until(lambda: subject.job.done == [b"0"])
        assert await app.consumer.commit() is False
        assert broker.committed == {}
