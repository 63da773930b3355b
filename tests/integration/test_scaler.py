"""`driftloop scale` reads Kafka and the workers, and tells how many are wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from prometheus_client import REGISTRY

from streams.kafka.connection import producer
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from streams.spec import Pipeline, Policies, RollOut, Scale
from tests.unit.pipelines import declare
from tests.waiting import until
from workers.processes.scaler import Scaler

PARTITIONS = 4
CAN = 100.0
"""Events a second."""


class Worker:
    """Shows what a worker shows that is never done, or has nothing to do."""

    def __init__(self) -> None:
        self.behind = False
        self.port = 0
        self._started = time.monotonic()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + self._metrics().encode())
        writer.close()

    def _metrics(self) -> str:
        busy = time.monotonic() - self._started if self.behind else 0.0
        lag = 1000.0 if self.behind else 0.0
        lines = [
            f"driftloop_batch_records_sum {CAN * busy}",
            f"driftloop_busy_seconds_total {busy}",
            *(f'driftloop_lag_records{{partition="{p}"}} {lag}' for p in range(PARTITIONS)),
        ]
        return "\n".join(lines) + "\n"


def scaled(name: str) -> Pipeline:
    scale = Scale(min=0, max=3, catch_up="10s", use=0.7, idle="3s")
    policies = Policies(rollout=RollOut.at_once(), scale=scale)
    return replace(declare(policies=policies), name=name)


def wanted(pipeline: Pipeline, role: str = "score") -> float | None:
    labels = {"pipeline": pipeline.name, "role": role}
    return REGISTRY.get_sample_value("driftloop_wanted_workers", labels)


async def test_as_many_as_the_load_asks_for_of_those_that_there_are(settings: Settings) -> None:
    pipeline = scaled("scaled")
    await ensure_topics(settings, pipeline)
    worker, stop = Worker(), asyncio.Event()
    async with worker.serving(), producer(settings) as out:
        at = settings.model_copy(update={"workers": f"127.0.0.1:{worker.port}"})
        running = asyncio.create_task(Scaler(at, pipeline).run(stop))
        await until(lambda: wanted(pipeline) == 1, "the one that there is counts")
        worker.behind = True
        for number in range(2000):
            await out.send(pipeline.topics.events, b"{}", partition=number % PARTITIONS)
        await until(lambda: wanted(pipeline) == 3, "more are wanted", within=30.0)
        assert wanted(pipeline, "label") == 1.0
    stop.set()
    await running


async def test_where_there_is_none_the_first_record_asks_for_one(settings: Settings) -> None:
    pipeline = scaled("woken")
    await ensure_topics(settings, pipeline)
    nobody = settings.model_copy(update={"workers": "127.0.0.1:1"})
    stop = asyncio.Event()
    running = asyncio.create_task(Scaler(nobody, pipeline).run(stop))
    async with producer(settings) as out:
        await out.send_and_wait(pipeline.topics.events, b"{}")
    await until(lambda: wanted(pipeline) == 1, "one is wanted", within=30.0)
    stop.set()
    await running
