"""`faust -A streams.app worker` runs the same scoring worker as `driftloop score`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streams.kafka.connection import client_options
from streams.settings import Settings
from workers.environment import environment

ROOT = Path(__file__).parents[2]
EVENT = {
    "transaction_id": "f1",
    "customer_id": "7",
    "terminal_id": "9",
    "amount": 12.5,
    "tx_time": "2024-01-01T12:00:00Z",
}
MODULE = """
from dataclasses import replace
from streams.pipelines.card_fraud import pipeline as base
pipeline = replace(base, name="by-faust")
"""


def worker(folder: Path, **variables: str) -> subprocess.Popen[str]:
    (folder / "by_faust.py").write_text(MODULE)
    path = os.pathsep.join([str(folder), str(ROOT)])
    own = {"PYTHONPATH": path, "DRIFTLOOP_PIPELINE": "by_faust"}
    return subprocess.Popen(
        [sys.executable, "-m", "faust", "-A", "streams.app", "worker", "-l", "warn"],
        cwd=folder,
        env={**os.environ, **variables, **own},
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


async def test_it_scores(tmp_path: Path, settings: Settings) -> None:
    process = worker(tmp_path, **environment(settings))
    try:
        found = await asyncio.wait_for(predicted(settings), 45)
        assert (found["event_id"], found["version"]) == ("f1", 0)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 30) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def predicted(settings: Settings) -> dict[str, object]:
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with consumer:
        while "by-faust.predictions" not in await consumer.topics():
            await asyncio.sleep(0.2)
        async with AIOKafkaProducer(**client_options(settings)) as producer:
            value = json.dumps(EVENT).encode()
            await producer.send_and_wait("by-faust.events", value, key=b"7")
        consumer.subscribe(["by-faust.predictions"])
        async for record in consumer:
            found: dict[str, object] = json.loads(record.value)
            return found
    raise AssertionError


def test_a_missing_server_is_one_line(tmp_path: Path, settings: Settings) -> None:
    away = settings.model_copy(update={"kafka": "127.0.0.1:1", "connect_timeout": 1.0})
    process = worker(tmp_path, **environment(away))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    [line] = [line for line in said.splitlines() if line.strip()]
    assert "cannot reach Kafka at 127.0.0.1:1" in line
    assert "DRIFTLOOP_KAFKA" in line
