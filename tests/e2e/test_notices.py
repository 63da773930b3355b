"""Whatever stops, degrades or refuses while `driftloop up` runs is told there within seconds."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import redis

from streams.kafka.connection import admin_client, producer
from streams.settings import Settings
from tests.e2e.test_up import EVENT, Up, settings_of, up
from tests.waiting import until
from workers.devstack.private import ADMIN, passwords

__all__ = ["up"]
_WITHIN = 8.0
"""Seconds, on a machine that is busy: five on one that is not."""


async def told(up: Up, pattern: str) -> None:
    """Return when the terminal has a line like this; one, and soon."""
    await until(lambda: re.search(pattern, up.said), pattern, within=_WITHIN, said=lambda: up.said)
    assert len(re.findall(pattern, up.said)) == 1, up.said


@contextmanager
def hanging(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def server(up: Up, *words: str) -> psutil.Process:
    [found] = [p for p in up.children() if all(word in " ".join(p.cmdline()) for word in words)]
    return found


async def test_it_is_told_once_and_so_is_its_end(up: Up, tmp_path: Path) -> None:
    log = tmp_path / "state" / "logs" / "card-fraud" / "label.log"
    await until(lambda: log.exists() and "serving metrics" in log.read_text(), said=lambda: up.said)
    settings = settings_of(tmp_path)
    label = up.worker("label")
    assert label is not None
    with hanging(psutil.Process(label)):
        await told(up, rf"label \(process {label}\) runs and does not answer")
    await told(up, "label answers again")
    for name, words in {
        "Kafka": ("kafka.Kafka", "broker"),
        "Triton": ("tritonserver",),
        "Redis": ("valkey-server",),
    }.items():
        with hanging(server(up, *words)):
            await told(up, rf"{name} at \S+ does not answer - the workers wait for it")
        await told(up, rf"{name} at \S+ answers again")
    with as_admin(settings, tmp_path) as valkey:
        valkey.config_set("maxmemory-policy", "allkeys-lru")
        await told(up, r"drops keys when its memory is full \(maxmemory-policy allkeys-lru\)")
        valkey.config_set("maxmemory-policy", "noeviction")
        await told(up, "Redis drops no keys any more")
    async with admin_client(settings) as admin:
        await admin.delete_topics(["card-fraud.predictions"])
    await told(up, "a topic was deleted, making it anew without what was in it")
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0, up.said


def event(number: int, day: int) -> bytes:
    made = {**EVENT, "transaction_id": str(number), "tx_time": f"2024-01-{day:02}T12:00:00Z"}
    return json.dumps(made).encode()


SKIPPED = (
    (
        "events",
        [event(1, 1), event(1, 1)],
        r"score-1: events whose id came before are dropped \(id 1, within 1d\)",
    ),
    (
        "scored",
        [b"{"],
        r"label: bad records become dead letters, see `driftloop dlq list` "
        r"\(topic card-fraud\.scored, cause malformed\)",
    ),
    (
        "events",
        [event(2, 8), event(3, 16)],  # each is mature once the next has been served
        r"trainer: a candidate is due and waits for examples: \d training examples, .* wait for",
    ),
    ("models", [b"{"], r": ledger entry cannot be read, passing over it"),
    ("examples", [b"{"], r"trainer: passing over records that are no examples"),
    (
        "events",
        [b"{"] * 1100,
        r"score-1 has stopped and is not restarted: \d+% of the last .* are bad .* start again",
    ),
)
"""Topic, what comes there, and what is told of it; in this order."""


async def test_what_is_skipped_is_told_once(up: Up, tmp_path: Path) -> None:
    logs = tmp_path / "state" / "logs" / "card-fraud"

    def ready(worker: str, sign: str) -> bool:
        log = logs / f"{worker}.log"
        return log.exists() and sign in log.read_text()

    for worker, sign in (
        ("score-1", "partitions assigned"),
        ("label", "partitions assigned"),
        ("trainer", "trainer is ready"),
    ):
        await until(partial(ready, worker, sign), said=lambda: up.said)
    await told(up, "score-1: no version serves yet, the fallback answers")
    settings = settings_of(tmp_path)
    async with producer(settings) as out:
        for topic, values, pattern in SKIPPED:
            sent = [await out.send(f"card-fraud.{topic}", value, key=b"7") for value in values]
            for one in sent:
                await one
            await told(up, pattern)
    async with admin_client(settings) as admin:
        await admin.delete_topics(["card-fraud.examples"])
    await told(up, r"making it anew without what was in it \(topic card-fraud\.examples\)")
    await told(up, r"trainer ended \(exit code 1\): topic \S+ was deleted and made anew")
    await until(lambda: "(1 repeated)" in up.said and "nobody scores" in up.said)
    for _, _, pattern in SKIPPED:
        assert len(re.findall(pattern, up.said)) == 1, up.said


@contextmanager
def as_admin(settings: Settings, folder: Path) -> Iterator[redis.Redis]:
    port = int(settings.redis.get_secret_value().rpartition(":")[2].partition("/")[0])
    known = passwords(folder / "state" / "stack")
    client = redis.Redis(port=port, username=ADMIN, password=known.redis_admin)
    try:
        yield client
    finally:
        client.close()
