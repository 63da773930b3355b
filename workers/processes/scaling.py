"""Starts and stops scoring workers of a loop that is up, as the load asks for."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

import psutil

from streams.errors import DriftloopError
from streams.kafka.offsets import OffsetsClient, offsets_client
from streams.kafka.topics import group_id
from streams.spec import Pipeline
from workers.devstack.cache import Notify
from workers.processes.loop import Loop
from workers.processes.status import Status
from workers.resources.decision import Measured, ScalingDecision, ScalingHistory, decide, needed
from workers.resources.meter import LoadMeter, LoadReading
from workers.resources.samples import retried, servers, worker_counts

_EVERY = 1.0
"""Seconds between two readings."""
_ROLE = "score"
_SERVER = {"infer": "Triton", "fold": "Redis", "topics": "Kafka", "connect": "a server"}
"""What workers wait for where they repeat a stage."""


class Scaling:
    """Follows the load until it is cancelled."""

    def __init__(self, loop: Loop, pipeline: Pipeline, status: Status, report: Notify) -> None:
        """`status` has the workers' numbers, and is told what is decided."""
        self._loop = loop
        self._pipeline = pipeline
        self._policy = pipeline.policies.scale
        self._status = status
        self._report = report
        self._workers = self._policy.min
        self._meter = LoadMeter()
        self._history = ScalingHistory()
        self._machine = _Machine()
        self._retried: dict[str, float] = {}
        self._limited = ""
        """What was told to limit the workers, while it lasts."""

    async def run(self) -> None:
        """Work until cancelled. While Kafka is away nothing is decided."""
        self._show("starting")
        while True:
            try:
                async with offsets_client(self._loop.settings) as asked:
                    while True:
                        await self.look(asked)
                        await asyncio.sleep(_EVERY)
            except DriftloopError:  # whoever watches the servers says so
                self._show("waiting for Kafka")
            await asyncio.sleep(_EVERY)

    async def look(self, asked: OffsetsClient) -> None:
        """Take a reading, decide, and carry it out. Raises `Unavailable`."""
        reading = await self._read(asked)
        measured = self._meter.take(reading, self._workers)
        if measured is not None:
            await self._decide(measured)

    async def _read(self, asked: OffsetsClient) -> LoadReading:
        topic = self._pipeline.topics.events
        ends = await asked.ends(topic)
        found = await asked.committed(group_id(self._pipeline.name, _ROLE), topic, ends)
        committed = {number: at for number, at in found.items() if at is not None}
        workers = self._status.workers(_ROLE)
        counts = {name: worker_counts(rows) for name, rows in workers.items()}
        seen = servers(workers.values())
        now = retried(workers.values())
        waits = [_SERVER.get(s, s) for s, n in now.items() if n > self._retried.get(s, 0.0)]
        self._retried = now
        seen = replace(
            seen, cpu=await asyncio.to_thread(self._machine.use), away="".join(waits[:1])
        )
        return LoadReading(time.monotonic(), counts, ends, committed, seen)

    async def _decide(self, measured: Measured) -> None:
        now, policy = time.monotonic(), self._policy
        self._history = self._history.seen(
            now, needed(policy, measured).workers, policy.idle_seconds
        )
        decision = decide(policy, measured, self._history, now)
        self._show(decision.reason)
        if decision.workers != self._workers:
            self._history = self._history.acted(now)
            await self._carry_out(decision)
        elif decision.limited and decision.limited != self._limited:
            self._report(f"workers {self._workers}: {decision.reason}")
        self._limited = decision.limited

    async def _carry_out(self, decision: ScalingDecision) -> None:
        assert self._loop.scorer is not None
        before, self._workers = self._workers, decision.workers
        self._report(f"workers {before} -> {decision.workers}: {decision.reason}")
        supervisor = self._loop.supervisor
        for number in range(before + 1, decision.workers + 1):
            supervisor.add(self._loop.scorer(number))
        for number in range(before, decision.workers, -1):
            await supervisor.remove(f"{_ROLE}-{number}")

    def _show(self, reason: str) -> None:
        self._status.scaling = f"workers {self._workers} (auto: {reason})"


class _Machine:
    """The share of this machine's cores that this process and its children use."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, float], float] = {}
        self._at = time.monotonic()

    def use(self) -> float:
        """Since it was asked before; processes that are new since count from their start."""
        ours = psutil.Process(os.getpid())
        now: dict[tuple[int, float], float] = {}
        for process in (ours, *ours.children(recursive=True)):
            try:
                times = process.cpu_times()
                now[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:  # it has ended
                continue
        at = time.monotonic()
        used = sum(seconds - self._before.get(one, 0.0) for one, seconds in now.items())
        share = used / max(at - self._at, 1e-3) / (psutil.cpu_count() or 1) if self._before else 0.0
        self._before, self._at = now, at
        return share
