"""A server dies in mid-stream and comes back: workers wait, go on, and lose and double nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic

from streams.kafka.connection import admin_client
from streams.kafka.reading import read_range
from streams.kafka.topics import ensure_topics
from streams.records import Prediction, decoder
from streams.settings import Settings
from tests.faults.harness import (
    Output,
    Workers,
    card_fraud_module,
    publish,
    trickle,
)
from tests.models import linear, promote_first
from tests.stack import own_stack
from tests.waiting import until
from workers.devstack.servers import listens
from workers.devstack.stack import Stack
from workers.worlds.card_fraud import World, event_records, simulate

RESUMED = 15.0
"""Seconds from the server's return to the next prediction."""

Own = tuple[Stack, Settings]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """A stack that the tests may harm."""
    with own_stack(tmp_path_factory.mktemp("own"), print) as own:
        yield own


@pytest.mark.parametrize("server", ["redis", "triton", "kafka"])
async def test_an_outage_loses_and_doubles_nothing(own: Own, tmp_path: Path, server: str) -> None:
    stack, settings = own
    pipeline = card_fraud_module(tmp_path / "work", f"outage-{server}")
    topics = pipeline.topics
    await ensure_topics(settings, pipeline)
    await promote_first(settings, pipeline, linear(len(pipeline.feature_names)))
    records = event_records(simulate(World(customers=400, terminals=300, days=16, seed=3)))[:6000]
    assert len(records) == 6000
    with Workers(settings, pipeline, tmp_path / "work") as workers:
        worker = workers.start("score")
        async with Output(settings, topics.predictions) as predictions:
            await until(worker.joined, "its partitions")
            stream = asyncio.create_task(trickle(settings, topics.events, records, 1000))
            await predictions.wait(1500)
            os.kill(stack.pids()[server], signal.SIGKILL)
            await asyncio.to_thread(stack.wait_healthy)
            await predictions.has(0)
            resumed = await predictions.wait(len(predictions.records) + 1, RESUMED)
            print(f"{server}: first prediction {resumed:.1f} s after its return")
            await stream
            await predictions.wait(len(records))
            await predictions.settle()
        assert worker.alive, worker.said()
    decode = decoder(Prediction).decode
    seen = [decode(record.value) for record in predictions.records]
    assert len(seen) == len({prediction.event_id for prediction in seen}) == len(records)
    assert {prediction.version for prediction in seen} == {1}


async def test_a_range_whose_broker_is_away_is_read_when_it_is_back(own: Own) -> None:
    stack, settings = own
    topic, port = "read-range", int(settings.kafka.rpartition(":")[2])
    async with admin_client(settings) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    await publish(settings, topic, [(None, b"%d" % n) for n in range(5000)])
    os.kill(stack.pids()["kafka"], signal.SIGKILL)
    while listens(port):
        await asyncio.sleep(0.01)
    read: list[int] = []
    async for records in read_range(settings, topic, 0, 1000, 4000, batch=500):
        read += [record.offset for record in records]
    assert read == list(range(1000, 4000))
