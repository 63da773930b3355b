"""The whole loop on servers that ask who we are, with the grants of docs/operations.md and no more."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from streams.kafka.connection import producer
from streams.kafka.reading import TopicFollower
from streams.kafka.topics import ensure_topics
from streams.kafka.writing import send_all
from streams.records import Example, Prediction, decoder
from streams.settings import Settings
from tests.secured import Secured, documented, secured
from tests.synthetic import made, pipeline
from tests.waiting import until
from workers.environment import environment

ROOT = Path(__file__).parents[2]
_decode = decoder(Prediction).decode


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured(tmp_path_factory.mktemp("secured"), pipeline.name) as found:
        yield found


def event(example: Example) -> tuple[str, bytes, bytes]:
    a, b, c, constant = memoryview(example.vector).cast("f")
    at = datetime.fromtimestamp(example.event_time, UTC).isoformat()
    value = {"reading_id": example.event_id, "machine": example.key, "at": at}
    value |= {"a": a, "b": b, "c": c, "constant": constant}
    return pipeline.topics.events, example.key.encode(), orjson.dumps(value)


def label(example: Example) -> tuple[str, bytes, bytes]:
    value = {"event_id": example.event_id, "label": int(example.label)}
    value |= {"labelled_at": example.event_time + 3600}
    return pipeline.topics.feedback, example.key.encode(), orjson.dumps(value)


@contextmanager
def worker(role: str, settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process of a role."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.roles", role, "tests.synthetic"],
            cwd=ROOT,
            env=os.environ | environment(settings),
            stdout=said,
            stderr=said,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


async def test_the_whole_loop(servers: Secured, tmp_path: Path) -> None:
    await servers.grant(documented(pipeline.name))
    await ensure_topics(servers.of("operator"), pipeline)
    logs = {role: tmp_path / f"{role}.log" for role in ("score", "label", "trainer")}

    def said() -> str:
        return "\n".join(f"{name}: {log.read_text()[-3000:]}" for name, log in logs.items())

    with ExitStack() as ending:
        for role, log in logs.items():
            ending.enter_context(worker(role, servers.of(role, state_dir=tmp_path / role), log))
        examples = made(7)
        await send(servers, [*map(event, examples)])
        positive = [example for example in examples if example.label]
        await send(servers, [*map(label, positive)])
        versions = await served(servers, "by a new version", said)
    assert versions == {0, 1}
    refused = {asked for asked in servers.asked() if not asked.allowed}
    assert refused == set()


async def send(servers: Secured, records: Sequence[tuple[str, bytes, bytes]]) -> None:
    """Send as the producer's user."""
    sending = producer(servers.of("producer"))
    await sending.start()
    try:
        await send_all(sending, records)
    finally:
        await sending.stop()


async def served(servers: Secured, what: str, said: object) -> set[int]:
    """The versions of predictions until there is a new one, as the consumer's user sees them."""
    follower = TopicFollower(servers.of("consumer"), pipeline.topics.predictions)
    await follower.start()
    seen: set[int] = set()
    count = 0

    async def newer() -> bool:
        nonlocal count
        await send(servers, [event(example) for example in made(0.01, seed=100 + count, first=8)])
        count += 1
        seen.update(_decode(record.value or b"").version for record in await follower.poll())
        return max(seen, default=0) > 0

    try:
        await until(newer, what, within=50, said=said)  # type: ignore[arg-type]
    finally:
        await follower.stop()
    return seen
