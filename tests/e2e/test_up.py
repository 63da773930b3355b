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
from textwrap import dedent

import psutil
import pytest

from streams.kafka.connection import producer, reader
from streams.settings import Settings
from tests.waiting import until, until_sync
from workers.devstack.state import running
from workers.environment import with_addresses

ROOT = Path(__file__).parents[2]
EVENT: dict[str, object] = {
    "transaction_id": "1",
    "customer_id": "7",
    "terminal_id": "9",
    "amount": 12.5,
    "tx_time": "2024-01-01T12:00:00Z",
}


class Up:
    """A `driftloop up` of a pipeline, the card-fraud one unless another is named."""

    def __init__(
        self, folder: Path, pipeline: str = "card_fraud", *options: str, **variables: str
    ) -> None:
        self._said = folder / f"said by {pipeline} {len(list(folder.iterdir()))}"
        self.environment = {
            **os.environ,
            **variables,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "DRIFTLOOP_STATE_DIR": str(folder / "state"),
            "DRIFTLOOP_MODEL_REPOSITORY": str(folder / "models"),
            "DRIFTLOOP_SESSION_TIMEOUT_MS": "6000",
        }
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "up", pipeline, *options],
                cwd=ROOT,
                env=self.environment,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    def run_what_it_prints(self) -> None:
        """Run the producer that is printed, as it is."""
        found = re.search(r"\(Python\):\n(.*?)\n\n", self.said, re.DOTALL)
        assert found is not None, self.said
        done = subprocess.run(
            [sys.executable, "-c", dedent(found[1])],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

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


def settings_of(folder: Path) -> Settings:
    """Settings that lead to the servers of the stack in a directory."""
    own = Settings(state_dir=folder / "state")
    addresses = running(own)
    assert addresses is not None
    return with_addresses(own, addresses)


async def prediction_of(settings: Settings, event_id: str, name: str) -> dict[str, object]:
    consumer = reader(settings, f"{name}.predictions")
    async with consumer, asyncio.timeout(40):
        async for record in consumer:
            found: dict[str, object] = json.loads(record.value)
            if found["event_id"] == event_id:
                return found
    raise AssertionError


async def predicted(
    settings: Settings, event: dict[str, object], name: str = "card-fraud"
) -> dict[str, object]:
    """Publish an event, whose first field is its id; its prediction."""
    async with producer(settings) as out:
        await out.send_and_wait(f"{name}.events", json.dumps(event).encode(), key=b"7")
    return await prediction_of(settings, str(next(iter(event.values()))), name)


async def test_events_go_in_predictions_come_out_and_a_dead_worker_is_replaced(
    up: Up, tmp_path: Path
) -> None:
    until_sync(lambda: "Ctrl-C ends it" in up.said or up.process.poll() is not None)
    assert "card-fraud.events" in up.said
    settings = settings_of(tmp_path)
    first = await predicted(settings, EVENT)
    assert (first["version"], first["degraded"]) == (0, True)
    async with producer(settings) as out:
        for _ in range(2):
            await out.send_and_wait("card-fraud.feedback", b"{", key=b"7")
    told = (
        "label: bad records become dead letters, see `driftloop dlq list` "
        "(topic card-fraud.feedback, cause malformed)"
    )
    await until(
        lambda: told in up.said, "the bad labels are told", within=8.0, said=lambda: up.said
    )
    await until(lambda: "1 event | 1 prediction (1 by the fallback)" in up.said)
    assert "2 dead letters (2 malformed)" in up.said
    assert up.said.count(told) == 1
    worker = up.worker("score")
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    until_sync(lambda: "score-1 ended (SIGKILL" in up.said)
    second = await predicted(settings, {**EVENT, "transaction_id": "2"})
    assert second["version"] == 0
    await asyncio.to_thread(up.run_what_it_prints)
    printed = await prediction_of(settings, "transaction_id-0", "card-fraud")
    assert printed["version"] == 0
    children = up.children()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0, up.said
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert "data is kept" in up.said


OTHER = """
from dataclasses import replace
from streams.pipelines.card_fraud import pipeline as base
pipeline = replace(base, name="other")
"""


@pytest.mark.timeout(180)
async def test_two_pipelines_share_a_state_directory_and_nothing_dies_under_the_second(
    up: Up, tmp_path: Path
) -> None:
    (tmp_path / "other_one.py").write_text(OTHER)
    await until(lambda: "Ctrl-C ends it" in up.said)
    same, other = Up(tmp_path), Up(tmp_path, "other_one", FORCE_COLOR="1", TERM="xterm")
    try:
        await until(lambda: same.process.poll() is not None)
        assert same.process.returncode == 1
        assert "error: card-fraud is up already in" in same.said
        await until(lambda: "Ctrl-C ends it" in other.said)
        assert "using the servers of process" in other.said
        up.process.send_signal(signal.SIGINT)
        await until(lambda: "other loops use these servers" in up.said)
        assert (await predicted(settings_of(tmp_path), EVENT, "other"))["version"] == 0
        await until(lambda: "1 event | 1 prediction (1 by the fallback)" in other.said)
        assert up.process.poll() is None
        other.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(other.process.wait, 30) == 0, other.said
        assert await asyncio.to_thread(up.process.wait, 30) == 0, up.said
    finally:
        other.process.kill()
        other.process.wait()
    logs = {p.parent.name for p in (tmp_path / "state" / "logs").glob("*/score-1.log")}
    assert logs == {"card-fraud", "other"}


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
