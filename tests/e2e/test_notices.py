"""Whatever stops, degrades or refuses while `driftloop up` runs is told there within seconds."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import redis

from streams.kafka.connection import admin_client
from streams.settings import Settings
from tests.e2e.test_up import Up, settings_of, up
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


@contextmanager
def as_admin(settings: Settings, folder: Path) -> Iterator[redis.Redis]:
    port = int(settings.redis.get_secret_value().rpartition(":")[2].partition("/")[0])
    known = passwords(folder / "state" / "stack")
    client = redis.Redis(port=port, username=ADMIN, password=known.redis_admin)
    try:
        yield client
    finally:
        client.close()
