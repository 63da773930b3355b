"""What is done to the servers, and to what they hold; each fault to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from random import Random

import orjson
import psutil
import redis
from aiokafka.admin import NewPartitions

from streams.kafka.connection import admin_client, serves_groups
from streams.kafka.offsets import offsets_client
from streams.kafka.reading import read_last, read_range
from streams.ports.batches import SourceRecord
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.times import parse
from tests.faults.customers import DAY
from tests.faults.harness import delete_below, publish
from tests.faults.marks import (
    GROWTH_LIMIT,
    REFOLD_LIMIT,
    SERVER_LIMIT,
    WORKER_LIMIT,
    Mark,
    Recovered,
)
from tests.faults.schedule import Fault
from tests.faults.truth import CAUSE
from tests.stack import redis_admin
from tests.waiting import until
from workers.devstack.private import certificates
from workers.devstack.servers import triton_answers
from workers.devstack.stack import Stack

_FLOOD = 20_000
"""Labels of a flood."""
_NEEDED = 40 * DAY
"""For so long a window may need an event: the longest and its delay, and those that are late."""
_MOST_PARTITIONS = 6
_START = 40.0
_QUIET = 3.0
_EVICTION, _LIMIT = "maxmemory-policy", "maxmemory"


class Servers:
    """Does faults to the servers of a running system; `recovered` measures and returns."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        stack: Stack,
        random: Random,
        recovered: Recovered,
    ) -> None:
        self._settings = settings
        self._topics = pipeline.topics
        self._stack = stack
        self._random = random
        self._recovered = recovered

    async def kill(self, server: str, fault: Fault) -> None:
        """SIGKILL; the stack starts it again."""
        process = psutil.Process(self._stack.pids()[server])
        process.kill()
        killed = time.time()
        await asyncio.to_thread(_gone, process)
        await self._back(server, fault, killed)

    async def kill_stub(self, fault: Fault) -> None:
        """SIGKILL of one of Triton's Python processes."""
        children = psutil.Process(self._stack.pids()["triton"]).children(recursive=True)
        stubs = [child for child in children if child.name().startswith("triton_python")]
        self._random.choice(stubs).kill()
        await self.mark(fault.kind, time.time())

    async def rewind(self, fault: Fault) -> None:
        """Redis comes back without what it wrote in its last second, as after a power cut.

        Not while an earlier fault is made up for: a label and its event that are folded in one
        and the same second are the one loss that is not made good (see docs/guarantees.md).
        """
        await asyncio.sleep(_QUIET)
        folder = self._settings.state_dir / "stack" / "redis" / "appendonlydir"
        file = max(folder.glob("*.incr.aof"), key=lambda file: int(file.name.split(".")[-3]))
        kept = file.stat().st_size
        await asyncio.sleep(1.0)
        process = psutil.Process(self._stack.pids()["redis"])
        process.kill()
        killed = time.time()
        await asyncio.to_thread(_gone, process)
        with file.open("r+b") as opened:
            opened.truncate(kept)
        await self._back("redis", fault, killed)

    async def flush(self, fault: Fault) -> None:
        """Redis is emptied, of its functions too."""
        with redis_admin(self._settings) as client:
            client.flushall()
            client.function_flush()
        at = time.time()
        await self._recovered(Mark(fault.kind, at, at, REFOLD_LIMIT))

    async def fill(self, fault: Fault) -> None:
        """Redis refuses writes for a while."""
        with redis_admin(self._settings) as client:
            before = client.config_get(_LIMIT)[_LIMIT]
            client.config_set(_LIMIT, "1mb")
            await asyncio.sleep(fault.lasts)
            client.config_set(_LIMIT, str(before))
        await self.mark(fault.kind, time.time())

    def let_evict(self, policy: str) -> None:
        """Tell Redis what to drop when its memory is full."""
        with redis_admin(self._settings) as client:
            client.config_set(_EVICTION, policy)

    async def flood(self, fault: Fault) -> None:
        """Labels for events that nobody sent."""
        now = time.time()
        labels = [
            (b"nobody-%d" % i, b'{"event_id":"nobody-%d","label":1,"labelled_at":%d}' % (i, now))
            for i in range(_FLOOD)
        ]
        at = time.time()
        await publish(self._settings, self._topics.feedback, labels)
        await self._recovered(Mark(fault.kind, at, at, WORKER_LIMIT, "examples"))

    async def trim(self, fault: Fault) -> None:
        """The events topic keeps what the longest window needs, and no more."""
        async with offsets_client(self._settings) as asked:
            ends = await asked.ends(self._topics.events)
        starts = {number: await self._first_needed(number, end) for number, end in ends.items()}
        at = time.time()
        await delete_below(self._settings, self._topics.events, starts)
        await self._recovered(Mark(fault.kind, at, at, WORKER_LIMIT))

    async def grow(self, fault: Fault) -> None:
        """One partition more, of which the workers have to find out by themselves."""
        topic = self._topics.events
        async with offsets_client(self._settings) as asked:
            now = len(await asked.ends(topic))
        if now == _MOST_PARTITIONS:
            return
        async with admin_client(self._settings) as admin:
            await admin.create_partitions({topic: NewPartitions(now + 1)})
        at = time.time()
        await self._recovered(Mark(fault.kind, at, at, GROWTH_LIMIT, partitions=now + 1))

    async def mark(self, what: str, at: float) -> None:
        """A server has been back since then."""
        await self._recovered(Mark(what, at, at, SERVER_LIMIT))

    async def _back(self, server: str, fault: Fault, killed: float) -> None:
        """The stack starts it again; the time to recover counts from its first answer."""

        async def answers() -> bool:
            return await asyncio.to_thread(_ANSWERS[server], self._settings)

        await until(answers, f"{server} is back", _START)
        await self._recovered(Mark(fault.kind, time.time(), killed, SERVER_LIMIT))

    async def _first_needed(self, partition: int, end: int) -> int:
        """The offset of the first event that a window may still need."""
        topic = self._topics.events
        newest = max(
            (_time(one) for one in await read_last(self._settings, topic, partition, 100)),
            default=0.0,
        )
        async for records in read_range(self._settings, topic, partition, 0, end):
            for record in records:
                if _time(record) > newest - _NEEDED:
                    return int(record.offset)
        return 0


def _time(record: SourceRecord) -> float:
    """Event time of an event; 0 of a bad record, whatever it says."""
    if any(name == CAUSE for name, _ in record.headers):
        return 0.0
    try:
        return parse(orjson.loads(record.value or b"")["tx_time"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def _redis_answers(settings: Settings) -> bool:
    with redis_admin(settings) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


_ANSWERS: dict[str, Callable[[Settings], bool]] = {
    "kafka": lambda settings: asyncio.run(serves_groups(settings)),
    "triton": lambda settings: triton_answers(
        settings.triton, certificates(settings.state_dir / "stack" / "certificates")
    ),
    "redis": _redis_answers,
}


def _gone(process: psutil.Process) -> None:
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.002)
