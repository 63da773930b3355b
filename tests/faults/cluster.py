"""The system under test: its servers, its workers kept running, and every fault done to them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

from streams.kafka.topics import group_id
from streams.ledger.topic import read_state
from streams.records import Action
from streams.settings import Settings
from streams.spec import Pipeline
from tests.faults.harness import Worker, Workers, members
from tests.faults.marks import WORKER_LIMIT, Mark, Recovered
from tests.faults.scaled import Scaled, placed
from tests.faults.schedule import POINTS, Fault, Kind
from tests.faults.servers import Servers
from tests.models import linear, manifest
from tests.reference.served import a_reference
from tests.waiting import until
from workers.devstack.stack import Stack
from workers.releases.candidate import Judged
from workers.releases.lifecycle import Lifecycle

SCORERS = ("score-1", "score-2")
LABELLERS = ("label-1", "label-2")
EVALUATORS = ("evaluate-1", "evaluate-2")
_SKEWS = (3000, -86_400)
"""Seconds: brokers refuse records from more than an hour ahead."""
_DROPS = b"drops keys when its memory is full"
_START = 40.0
_WATCH = 0.1


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
        self._kept[name] = self._workers.start(role, state_dir=disk, **placed(name))
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
        self._servers = Servers(settings, pipeline, stack, random, recovered)
        self._scaled = Scaled(pipeline, workers, random, recovered)
        self._workers = workers
        self._random = random
        self._recovered = recovered
        self.crew = Crew(workers, settings.state_dir)
        self._reference = a_reference(pipeline)

    async def start(self) -> None:
        """A first version serves, and every worker is up."""
        await self.publish()
        for name in (*SCORERS, *LABELLERS, *EVALUATORS, "trainer-1", "scale-1"):
            self.crew.start(name)
        await self.whole()
        await self._scaled.told()

    async def whole(self) -> None:
        """Return when every worker is in its group: one that stays out of it works on nothing."""
        for names in (SCORERS, LABELLERS, EVALUATORS):
            role = names[0].partition("-")[0]
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
                made = manifest(
                    self._pipeline, 1, data, parent=now.champion, reference=self._reference
                )
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
                await self._suspend("trainer-1", fault)
            case Kind.evaluate_kill:
                name = self._random.choice(EVALUATORS)
                await self._joined(name)
                self.crew.kill(name)
            case Kind.evaluate_stop:
                await self._suspend(self._random.choice(EVALUATORS), fault)
            case Kind.scale_kill:
                await self._scaled.scaler_was_killed(self.crew.kill("scale-1"))
            case Kind.resize_kill:
                await self._scaled.kill_resizer()
            case Kind.up_kill:
                await self._scaled.kill_up(self._settings.state_dir / "up")
            case Kind.rebalance:
                await self._rebalance(fault)
            case Kind.clock_skew:
                await self._skew(fault)
            case Kind.redis_evicts:
                await self._let_evict()
            case Kind.publish:
                await self._servers.mark(fault.kind, await self.publish())
            case _ if fault.kind in POINTS:
                await self._crash_at_point(fault)
            case _:
                await self._harm_servers(fault)

    async def _harm_servers(self, fault: Fault) -> None:
        servers = self._servers
        match fault.kind:
            case Kind.triton_kill | Kind.redis_kill | Kind.kafka_kill:
                await servers.kill(fault.kind.partition("-")[0], fault)
            case Kind.stub_kill:
                await servers.kill_stub(fault)
            case Kind.redis_rewind:
                await servers.rewind(fault)
            case Kind.redis_flush:
                await servers.flush(fault)
            case Kind.redis_full:
                await servers.fill(fault)
            case Kind.label_flood:
                await servers.flood(fault)
            case Kind.trim:
                await servers.trim(fault)
            case Kind.partitions:
                await servers.grow(fault)
            case _:
                raise AssertionError(fault.kind)

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

    async def _suspend(self, name: str, fault: Fault) -> None:
        self.crew[name].suspend()
        await asyncio.sleep(fault.lasts)
        self.crew[name].resume()

    async def _kill_trainer(self) -> None:
        killed = self.crew.kill("trainer-1")
        successor = self.crew["trainer-1"]

        async def ready() -> bool:
            return "trainer is ready" in successor.said()

        await until(ready, "the trainer is ready", _START, successor.said)
        # it is ready by now, whatever the other workers do
        await self._recovered(Mark(Kind.trainer_kill, killed, 0.0, WORKER_LIMIT))

    async def _rebalance(self, fault: Fault) -> None:
        await self._visit(self._workers.start("score"), fault)

    async def _skew(self, fault: Fault) -> None:
        """A guest whose clock is wrong; what it writes bears that time."""
        role, skew = self._random.choice(("score", "label")), self._random.choice(_SKEWS)
        program = ("tests.faults.skewed", str(skew), role)
        disk = self._settings.state_dir / f"{role}-guest"
        await self._visit(self._workers.start(role, program, state_dir=disk), fault)

    async def _visit(self, guest: Worker, fault: Fault) -> None:
        """A guest takes part for a while."""
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
        program = ("tests.faults.crash_points", fault.kind, str(fault.passes), "score")
        guest = self._workers.start("score", program)
        code = await guest.exit_code(_START)
        assert code == -signal.SIGKILL, guest.said()
        await self._worker_mark(fault.kind, time.time())

    async def _let_evict(self) -> None:
        """Nothing is dropped, as memory is not full: every worker with state in Redis says it."""
        workers = [self.crew[name] for name in (*SCORERS, *LABELLERS)]
        before = {worker: worker.times_said(_DROPS) for worker in workers}

        async def said() -> bool:
            return all(
                worker.times_said(_DROPS) > before[worker] for worker in workers if worker.alive
            )

        self._servers.let_evict("allkeys-lru")
        try:
            await until(said, "the workers say that Redis may drop keys", _START)
        finally:
            self._servers.let_evict("noeviction")

    async def _worker_mark(self, what: str, at: float, stream: str = "newest") -> None:
        await self._recovered(Mark(what, at, at, WORKER_LIMIT, stream))
