"""`driftloop up` runs the loop in the foreground, mends it, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.waiting import until_sync

ROOT = Path(__file__).parents[2]
EVENT = {
    "transaction_id": "1",
    "customer_id": "7",
    "terminal_id": "9",
    "amount": 12.5,
    "tx_time": "2024-01-01T12:00:00Z",
}


class Up:
    """A `driftloop up` of the card-fraud pipeline."""

    def __init__(self, folder: Path) -> None:
        self._said = folder / "said"
        environment = {
            **os.environ,
            "DRIFTLOOP_STATE_DIR": str(folder / "state"),
            "DRIFTLOOP_MODEL_REPOSITORY": str(folder / "models"),
            "DRIFTLOOP_SESSION_TIMEOUT_MS": "6000",
        }
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "up", "card_fraud"],
                cwd=ROOT,
                env=environment,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def worker(self, role: str) -> int | None:
        for child in self.children():
            try:
                if child.cmdline()[-2:-1] == [role]:
                    return child.pid
            except (psutil.Error, IndexError):
                continue
        return None


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path)
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.wait()


async def predicted(kafka: str, event: dict[str, object]) -> dict[str, object]:
    """Publish an event as the hint says; its prediction."""
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        await producer.send_and_wait("card-fraud.events", json.dumps(event).encode(), key=b"7")
    consumer = AIOKafkaConsumer(
        "card-fraud.predictions",
        bootstrap_servers=kafka,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with consumer, asyncio.timeout(40):
        async for record in consumer:
            found: dict[str, object] = json.loads(record.value)
            if found["event_id"] == event["transaction_id"]:
                return found
    raise AssertionError


async def test_events_go_in_predictions_come_out_and_a_dead_worker_is_replaced(up: Up) -> None:
    until_sync(lambda: "Ctrl-C ends it" in up.said or up.process.poll() is not None)
    assert "card-fraud.events" in up.said
    kafka = re.search(r"Kafka +(\S+)", up.said)
    assert kafka is not None, up.said
    first = await predicted(kafka[1], EVENT)
    assert (first["version"], first["degraded"]) == (0, True)
    worker = up.worker("score")
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    until_sync(lambda: "score-1 ended (SIGKILL)" in up.said)
    second = await predicted(kafka[1], {**EVENT, "transaction_id": "2"})
    assert second["version"] == 0
    children = up.children()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0, up.said
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert "data is kept" in up.said


def test_killing_it_leaves_nothing_behind(up: Up) -> None:
    until_sync(lambda: up.worker("trainer") is not None)
    children = up.children()
    assert len(children) >= 6
    up.process.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


def test_ctrl_c_while_it_starts_ends_it(up: Up) -> None:
    until_sync(lambda: len(up.children()) >= 1)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) in (0, 130, -signal.SIGINT)
