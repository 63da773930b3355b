"""The system under test: its servers, its workers kept running, and every fault done to them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import psutil
import redis

from streams.kafka.offsets import offsets_client
from streams.kafka.topics import group_id
from streams.ledger.topic import read_state
from streams.records import Action
from streams.settings import Settings
from streams.spec import Pipeline
from tests.faults.harness import Worker, Workers, delete_below, members, publish
from tests.faults.schedule import POINTS, Fault, Kind
from tests.models import linear, manifest
from tests.waiting import until
from workers.devstack.kafka import kafka_answers
from workers.devstack.servers import triton_answers
from workers.devstack.stack import Stack
from workers.releases.candidate import Judged
from workers.releases.lifecycle import Lifecycle

WORKER_LIMIT = 10.0
"""Seconds from a worker's death to the prediction of an event that was sent after it."""
SERVER_LIMIT = 5.0
"""Seconds from a server's return to the same."""
SCORERS = ("score-1", "score-2")
LABELLERS = ("label-1", "label-2")
_FLOOD, _LATEST = 20_000, 5_000
"""Labels of a flood; records of a partition that a trim leaves, for the oracle to read."""
_START = 40.0
_WATCH = 0.1
_QUIET = 3.0


@dataclass(frozen=True)
class Mark:
    """From when on the time to recover counts, and what ends it."""

    what: str
    since: float
    """Seconds since 1970: the worker's death, the server's return."""
    after: float
    """An output of an event sent after this ends it, on every partition."""
    limit: float
    stream: str = "newest"
    """`newest` for predictions, `examples`."""


Recovered = Callable[[Mark], Awaitable[None]]


class Crew:
    """Workers by name, each started again when it ends; each has a machine's disk of its own."""

    def __init__(self, workers: Workers, disks: Path) -> None:
        self._workers = workers
        self._disks = disks
        self._kept: dict[str, Worker] = {}
        self.endings: list[str] = []
        """Of those that ended without a fault that ends them."""

    def __getitem__(self, name: str) -> Worker:
        return self._kept[name]

    def start(self, name: str) -> Worker:
        """Start a worker and keep it running; its name begins with its role."""
        role, disk = name.partition("-")[0], self._disks / name
        self._kept[name] = self._workers.start(role, state_dir=disk)
        return self._kept[name]

    def kill(self, name: str) -> float:
        """SIGKILL, and start a successor at once; returns when."""
        self._kept[name].kill()
        killed = time.time()
        self.start(name)
        return killed

    def said(self, names: Sequence[str]) -> str:
        """The ends of their logs."""
        return "\n".join(f"{name}: {self._kept[name].said()}" for name in names)

    async def watch(self) -> None:
        """Start again what ends, until cancelled."""
        while True:
            for name, worker in self._kept.items():
                if worker.code is not None:
                    last = worker.said().strip().splitlines()[-1:] or ["it said nothing"]
                    self.endings.append(f"{name} ({worker.code}): {last[0][:200]}; {worker.log}")
                    self.start(name)
            await asyncio.sleep(_WATCH)


class Cluster:
    """Does faults to a running system, each to its end; `recovered` measures and returns."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        stack: Stack,
        workers: Workers,
        random: Random,
        recovered: Recovered,
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._stack = stack
        self._workers = workers
        self._random = random
        self._recovered = recovered
        self.crew = Crew(workers, settings.state_dir)

    async def start(self) -> None:
        """A first version serves, and every worker is up."""
        await self.publish()
        for name in (*SCORERS, *LABELLERS, "trainer-1"):
            self.crew.start(name)
        await self.whole()

    async def whole(self) -> None:
        """Return when every worker is in its group: one that stays out of it works on nothing."""
        for role, names in (("score", SCORERS), ("label", LABELLERS)):
            complete, said = partial(self._complete, role, names), partial(self.crew.said, names)
            await until(complete, f"{' and '.join(names)} are in their group", _START, said)

    async def publish(self) -> float:
        """A new version is promoted; returns when."""
        lifecycle = Lifecycle(self._settings, self._pipeline)
        try:
            now = await read_state(self._settings, self._pipeline)
            bias = 0.1 * (1 + len(now.promoted))
            data = linear(len(self._pipeline.feature_names), bias=bias, factor=1e-4)
            action = Action.INCONCLUSIVE
            while action is Action.INCONCLUSIVE:  # the trainer has promoted one meanwhile
                now = await read_state(self._settings, self._pipeline)
                made = manifest(self._pipeline, 1, data, parent=now.champion)
                judged = Judged(made, data, Action.PROMOTE, "a new version under load")
                action = (await lifecycle.release(judged)).action
            assert action is Action.PROMOTE, f"a new version under load: {action}"
        finally:
            await lifecycle.close()
        return time.time()

    async def inject(self, fault: Fault) -> None:
        """Do one fault; returns when the system has recovered from it."""
        match fault.kind:
            case Kind.score_kill:
                await self._kill(self._random.choice(SCORERS), fault)
            case Kind.score_stop:
                await self._stop(self._random.choice(SCORERS), fault)
            case Kind.label_kill:
                await self._kill(self._random.choice(LABELLERS), fault, "examples")
            case Kind.label_stop:
                await self._stop(self._random.choice(LABELLERS), fault, "examples")
            case Kind.trainer_kill:
                await self._kill_trainer()
            case Kind.trainer_stop:
                self.crew["trainer-1"].suspend()
                await asyncio.sleep(fault.lasts)
                self.crew["trainer-1"].resume()
            case Kind.rebalance:
                await self._rebalance(fault)
            case Kind.triton_kill | Kind.redis_kill | Kind.kafka_kill:
                await self._kill_server(fault.kind.partition("-")[0], fault)
            case Kind.redis_rewind:
                await self._rewind(fault)
            case Kind.label_flood:
                await self._flood(fault)
            case Kind.trim:
                await self._trim(fault)
            case Kind.stub_kill:
                await self._kill_stub(fault)
            case Kind.publish:
                await self._server_mark(fault.kind, await self.publish())
            case _:
                assert fault.kind in POINTS
                await self._crash_at_point(fault)

    async def _complete(self, role: str, names: Sequence[str]) -> bool:
        group = group_id(self._pipeline.name, role)
        return await members(self._settings, group) == len(names)

    async def _joined(self, name: str) -> None:
        """Return when a worker, or its successor if it has just ended, has partitions."""

        async def joined() -> bool:
            return await self.crew[name].joined()

        await until(joined, f"{name} has partitions", _START, self.crew[name].said)

    async def _kill(self, name: str, fault: Fault, stream: str = "newest") -> None:
        await self._joined(name)
        killed = self.crew.kill(name)
        await self._worker_mark(fault.kind, killed, stream)

    async def _stop(self, name: str, fault: Fault, stream: str = "newest") -> None:
        """Others take over while it is stopped; then it goes on as if nothing had been."""
        await self._joined(name)
        worker = self.crew[name]
        stopped = time.time()
        worker.suspend()
        await self._worker_mark(fault.kind, stopped, stream)
        await asyncio.sleep(max(0.0, stopped + fault.lasts - time.time()))
        before, woken = worker.assignments, time.time()
        worker.resume()

        async def settled() -> bool:
            return not worker.alive or worker.assignments > before

        await until(settled, f"{name}, woken, works or has ended", _START, worker.said)
        await self._worker_mark(f"{fault.kind}, woken", woken, stream)

    async def _kill_trainer(self) -> None:
        killed = self.crew.kill("trainer-1")
        successor = self.crew["trainer-1"]

        async def ready() -> bool:
            return "trainer is ready" in successor.said()

        await until(ready, "the trainer is ready", _START, successor.said)
        # it is ready by now, whatever the other workers do
        await self._recovered(Mark(Kind.trainer_kill, killed, 0.0, WORKER_LIMIT))

    async def _rebalance(self, fault: Fault) -> None:
        guest = self._workers.start("score")
        try:
            await until(guest.joined, "a guest has partitions", _START, guest.said)
            await self._worker_mark(f"{fault.kind}, joined", time.time())
            await asyncio.sleep(fault.lasts)
        finally:
            left = time.time()
            await asyncio.to_thread(guest.end)
        await self._worker_mark(f"{fault.kind}, left", left)

    async def _crash_at_point(self, fault: Fault) -> None:
        """A guest takes part until it kills itself."""
        program = ("tests.faults.crash_points", fault.kind, str(fault.passes))
        guest = self._workers.start("score", program)
        code = await guest.exit_code(_START)
        assert code == -signal.SIGKILL, guest.said()
        await self._worker_mark(fault.kind, time.time())

    async def _kill_server(self, server: str, fault: Fault) -> None:
        process = psutil.Process(self._stack.pids()[server])
        process.kill()
        killed = time.time()
        await asyncio.to_thread(_gone, process)
        await self._server_back(server, fault, killed)

    async def _kill_stub(self, fault: Fault) -> None:
        children = psutil.Process(self._stack.pids()["triton"]).children(recursive=True)
        stubs = [child for child in children if child.name().startswith("triton_python")]
        self._random.choice(stubs).kill()
        await self._server_mark(fault.kind, time.time())

    async def _rewind(self, fault: Fault) -> None:
        """Redis comes back without what it wrote in its last second, as after a power cut.

        Not while an earlier fault is made up for: a label and its event that are folded in one
        and the same second are the one loss that is not made good (see docs/guarantees.md).
        """
        await asyncio.sleep(_QUIET)
        folder = self._settings.state_dir / "stack" / "redis" / "appendonlydir"
        file = max(folder.glob("*.incr.aof"), key=_number)
        kept = file.stat().st_size
        await asyncio.sleep(1.0)
        process = psutil.Process(self._stack.pids()["redis"])
        process.kill()
        killed = time.time()
        await asyncio.to_thread(_gone, process)
        with file.open("r+b") as opened:
            opened.truncate(kept)
        await self._server_back("redis", fault, killed)

    async def _flood(self, fault: Fault) -> None:
        now = time.time()
        labels = [
            (b"nobody-%d" % i, b'{"event_id":"nobody-%d","label":1,"labelled_at":%d}' % (i, now))
            for i in range(_FLOOD)
        ]
        at = time.time()
        await publish(self._settings, self._pipeline.topics.feedback, labels)
        await self._recovered(Mark(fault.kind, at, at, WORKER_LIMIT, "examples"))

    async def _trim(self, fault: Fault) -> None:
        topic, group = self._pipeline.topics.events, group_id(self._pipeline.name, "score")
        async with offsets_client(self._settings) as asked:
            ends = await asked.ends(topic)
            committed = await asked.committed(group, topic, ends)
        starts = {number: max(0, (at or 0) - _LATEST) for number, at in committed.items()}
        at = time.time()
        await delete_below(self._settings, topic, starts)
        await self._recovered(Mark(fault.kind, at, at, WORKER_LIMIT))

    async def _server_back(self, server: str, fault: Fault, killed: float) -> None:
        """The stack starts it again; the time to recover counts from its first answer."""

        async def answers() -> bool:
            return await asyncio.to_thread(_ANSWERS[server], self._settings)

        await until(answers, f"{server} is back", _START)
        await self._recovered(Mark(fault.kind, time.time(), killed, SERVER_LIMIT))

    async def _server_mark(self, what: str, at: float) -> None:
        await self._recovered(Mark(what, at, at, SERVER_LIMIT))

    async def _worker_mark(self, what: str, at: float, stream: str = "newest") -> None:
        await self._recovered(Mark(what, at, at, WORKER_LIMIT, stream))


def _redis_answers(settings: Settings) -> bool:
    with redis.Redis.from_url(settings.redis.get_secret_value(), socket_timeout=2.0) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


_ANSWERS: dict[str, Callable[[Settings], bool]] = {
    "kafka": lambda settings: kafka_answers(int(settings.kafka.rpartition(":")[2])),
    "triton": lambda settings: triton_answers(settings.triton),
    "redis": _redis_answers,
}


def _number(file: Path) -> int:
    return int(file.name.split(".")[-3])


def _gone(process: psutil.Process) -> None:
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.002)
