"""Outputs first, then offsets."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from streams.testing.broker import MemoryBroker
from tests.faust_faults.applications import Stock
from tests.faust_faults.subjects import EVENTS, must, running, spec
from tests.waiting import until


@spec("A5: the flush before a commit gives up after 0.1 s without progress")
async def test_offsets_wait_for_outputs_that_kafka_has_not_taken(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, taken = MemoryBroker(), asyncio.Event()

    async def stall() -> None:
        await taken.wait()

    broker.faults["send"] = [stall]
    async with running(kind, broker, monkeypatch, stock=Stock(soon=True)) as subject:
        broker.write(EVENTS, [0, 1, 2])
        await until(lambda: len(subject.job.done) == 3)
        if not subject.ours:
            assert subject.app.producer.buffer.size > 0
        await until(lambda: broker.faults["send"] == [])
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):  # it may wait for them
                await subject.commit()
        written, committed = len(broker.output), subject.committed
        taken.set()
        must(committed <= written, f"commit {written} of {committed}")
