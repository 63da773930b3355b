"""Scoring workers that die, or are stopped, in mid-stream: each event is predicted once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.connection import client_options
from streams.kafka.topics import ensure_topics
from streams.pipelines.card_fraud import pipeline as card_fraud
from streams.records import Prediction, Scored, decoder
from streams.settings import Settings
from streams.spec.layout import unpack
from streams.testing import Rehearsal
from tests.faults.harness import Output, Workers, card_fraud_module, trickle
from tests.waiting import until
from workers.worlds.card_fraud import World, event_records, simulate

# the order of a terminal's events across partitions is open: these features do not depend on it
PER_CUSTOMER = [i for i, n in enumerate(card_fraud.feature_names) if not n.startswith("terminal")]

Records = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def records() -> Records:
    """More than 20,000 events of the simulated world."""
    found = event_records(simulate(World(customers=500, terminals=800, days=24, seed=7)))
    assert len(found) >= 20_000
    return found


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings under which a dead worker is noticed as soon as may be."""
    return settings.model_copy(update={"session_timeout_ms": 6000, "batch_records": 256})


async def undisturbed(records: Records) -> dict[str, bytes]:
    """The vector of each event in one run in memory."""
    rehearsal = Rehearsal(card_fraud)
    vectors: dict[str, bytes] = {}
    for start in range(0, len(records), 2000):
        result = await rehearsal.score([value for _, value in records[start : start + 2000]])
        vectors |= {scored.event_id: scored.vector for scored in result.scored}
    return vectors


async def in_transaction(settings: Settings, topic: str) -> bool:
    """Whether an open transaction has written to a topic."""
    ends = []
    for level in ("read_committed", "read_uncommitted"):
        consumer = AIOKafkaConsumer(topic, **client_options(settings), isolation_level=level)
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, p) for p in range(settings.partitions)]
            ends.append(sum((await consumer.end_offsets(partitions)).values()))
        finally:
            await consumer.stop()
    return bool(ends[0] < ends[1])


async def check(settings: Settings, topic: str, predictions: Output, records: Records) -> None:
    """Each event exactly once, in the order of its customer, with the features of its time."""
    await predictions.wait(len(records))
    await predictions.settle()
    sent: dict[bytes, list[str]] = defaultdict(list)
    for key, value in records:
        sent[key].append(orjson.loads(value)["transaction_id"])
    seen: dict[bytes, list[str]] = defaultdict(list)
    decode = decoder(Prediction).decode
    for record in predictions.records:
        seen[record.key].append(decode(record.value).event_id)
    assert sum(map(len, seen.values())) == len(records)
    assert seen == sent

    expected = await undisturbed(records)
    read = decoder(Scored).decode
    async with Output(settings, topic) as scored:
        await scored.wait(len(records))
        await scored.settle()
    served = {one.event_id: one.vector for one in (read(r.value) for r in scored.records)}
    assert len(scored.records) == len(served) == len(records)
    order = list(expected)
    np.testing.assert_allclose(
        unpack([served[i] for i in order])[:, PER_CUSTOMER],
        unpack([expected[i] for i in order])[:, PER_CUSTOMER],
        rtol=1e-6,
    )


async def test_killed_workers_lose_and_double_nothing(
    quick: Settings, tmp_path: Path, records: Records
) -> None:
    pipeline = card_fraud_module(tmp_path / "work", "killed-scoring")
    topics = pipeline.topics
    await ensure_topics(quick, pipeline)
    with Workers(quick, pipeline, tmp_path / "work") as workers:
        async with Output(quick, topics.predictions) as predictions:
            stream = asyncio.create_task(trickle(quick, topics.events, records, 2500))
            first = workers.start("score")
            await predictions.wait(1000)
            first.kill()

            second = workers.start("score", transaction_ms=2000)
            await until(lambda: in_transaction(quick, topics.predictions), "an open transaction")
            second.kill()
            await predictions.settle()

            third = workers.start("score")
            recovery = await predictions.wait(len(predictions.records) + 1)
            print(f"first prediction {recovery:.1f} s after the start of a successor")

            guest = workers.start("score")
            await until(guest.joined, "a share of the partitions")
            await predictions.wait(len(predictions.records) + 200)
            guest.kill()
            await stream
            await check(quick, topics.scored, predictions, records)
            assert third.alive, third.said()


async def test_a_worker_that_was_replaced_unnoticed_changes_nothing(
    quick: Settings, tmp_path: Path, records: Records
) -> None:
    pipeline = card_fraud_module(tmp_path / "work", "stopped-scoring")
    topics = pipeline.topics
    await ensure_topics(quick, pipeline)
    records = records[:8000]
    with Workers(quick, pipeline, tmp_path / "work") as workers:
        async with Output(quick, topics.predictions) as predictions:
            stream = asyncio.create_task(trickle(quick, topics.events, records, 2000))
            zombie = workers.start("score", transaction_ms=2000)
            await until(lambda: in_transaction(quick, topics.predictions), "an open transaction")
            zombie.suspend()
            workers.start("score")
            await predictions.wait(len(predictions.records) + 1000)
            zombie.resume()
            await stream
            await check(quick, topics.scored, predictions, records)
            if not zombie.alive:  # else it noticed before it wrote, and joined again
                assert await zombie.exit_code(1) > 0
            print("the stopped worker", "joined again" if zombie.alive else "ended")
