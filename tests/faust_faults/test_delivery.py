"""The way of a record through Faust: whoever keeps the books sees every acknowledgement."""

from __future__ import annotations

from typing import Any

import faust.streams
import pytest

from streams.testing.broker import MemoryBroker
from tests.faust_faults.subjects import EVENTS, must, running, spec
from tests.waiting import until


@spec("A9: the Cython stream acknowledges by itself, past `Consumer.ack`")
async def test_a_consumer_that_keeps_its_own_books_sees_every_acknowledgement(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faust.streams._CStreamIterator is not None
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        consumer = subject.app.consumer
        seen: list[int] = []

        def ack(message: Any) -> bool:
            seen.append(message.offset)
            return bool(type(consumer).ack(consumer, message))

        monkeypatch.setattr(consumer, "ack", ack)
        broker.write(EVENTS, [0, 1, 2])
        await until(lambda: len(subject.job.done) == 3)
        must(consumer._acked[EVENTS] == seen, "acknowledge through the consumer, or not at all")


@spec("A9: the Python stream acknowledges what it skips as an earlier generation's")
async def test_what_is_left_out_is_not_committed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faust.streams, "_CStreamIterator", None)
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        subject.job.hold(b"0")
        broker.write(EVENTS, [0, 1, 2])
        await until(lambda: b"0" in subject.job.seen and broker.position(EVENTS) == 3)
        subject.app.consumer_generation_id += 1  # so does an assignment begin
        subject.job.release()
        await until(lambda: b"0" in subject.job.done)
        await subject.commit()
        must(not subject.lost, "commit nothing that was left out")
