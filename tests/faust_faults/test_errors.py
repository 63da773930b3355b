"""A record that fails is not passed in silence: it stays uncommitted, or it is a dead letter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import orjson
import pytest
from aiokafka import ConsumerRecord
from numpy.typing import NDArray

from streams.adapters.memory.scorer import FixedChampion, MemoryScorer
from streams.adapters.memory.state import MemoryFeatureState
from streams.scoring.partition import PartitionScoring
from streams.scoring.processor import Scoring
from streams.testing.broker import MemoryBroker
from tests.faust_faults.applications import Stock
from tests.faust_faults.subjects import EVENTS, must, must_come, running, spec
from tests.unit.pipelines import declare, order
from tests.waiting import until

PIPELINE = declare()
BAD = b"{"


def hundredths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = vectors[:, :1] / np.float32(100)
    return scores


def scoring(partition: int) -> PartitionScoring:
    """What production scores with, on the adapters in memory."""
    scorer = MemoryScorer({1: hundredths})
    state = MemoryFeatureState(PIPELINE.plan)
    return Scoring(PIPELINE, state, scorer, FixedChampion(1), nothing).partition(partition)


async def nothing(*_: Any) -> AsyncIterator[list[ConsumerRecord]]:
    return
    yield


def values(bad: int, count: int) -> dict[int, bytes]:
    good = {n: orjson.dumps(order(n, 1_700_000_000.0 + n, basket=1)) for n in range(count)}
    return {**good, bad: BAD}


@spec("A6: an exception in an agent acknowledges the event that it failed at")
async def test_a_record_that_an_agent_fails_at_is_not_committed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch) as subject:
        subject.job.fails.add(b"1")
        broker.write(EVENTS, [0, 1, 2])
        await until(lambda: b"1" in subject.job.seen)
        await until(lambda: subject.ended if subject.ours else b"2" in subject.job.done)
        await subject.commit()
        must(not subject.lost, "leave it uncommitted")


@spec("A6: take() acknowledges its whole buffer in `finally`")
async def test_a_batch_that_an_agent_fails_at_is_not_committed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    async with running(kind, broker, monkeypatch, stock=Stock(take=3)) as subject:
        subject.job.fails.add(b"0")
        broker.write(EVENTS, [0, 1, 2])
        await until(lambda: b"0" in subject.job.seen)
        await until(lambda: subject.ended if subject.ours else bool(acknowledged(subject)))
        await subject.commit()
        must(not subject.lost, "leave it uncommitted")


def acknowledged(subject: Any) -> list[int]:
    found: list[int] = subject.app.consumer._acked[EVENTS]
    return found


@spec("A7: a record that cannot be decoded is acknowledged and skipped")
async def test_a_record_that_cannot_be_decoded_is_a_dead_letter(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    stock = Stock(serializer="json")
    async with running(kind, broker, monkeypatch, stock=stock, new_processor=scoring) as subject:
        broker.write(EVENTS, range(3), values(bad=1, count=3))
        await until(lambda: len(subject.job.done if not subject.ours else broker.output) >= 2)
        await subject.commit()
        letters = [value for topic, value in broker.output if topic == PIPELINE.topics.dead_letters]
        must(letters == [BAD] or subject.committed <= 1, "keep it as a dead letter")
        assert subject.committed == 3


@spec("A7: with take() the agent ends in silence")
async def test_what_follows_a_record_that_cannot_be_decoded_is_worked_on(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    stock = Stock(serializer="json", take=2)
    async with running(kind, broker, monkeypatch, stock=stock, new_processor=scoring) as subject:

        def done() -> int:
            predicted = [1 for topic, _ in broker.output if topic == PIPELINE.topics.predictions]
            return len(predicted if subject.ours else subject.job.done)

        broker.write(EVENTS, range(3), values(bad=2, count=3))
        await until(lambda: done() == 2)
        broker.write(EVENTS, range(3, 6), values(bad=2, count=6))
        await must_come(lambda: done() == 5 or subject.ended, "go on, or end and say so")
