"""Starts and stops the workers of a loop that is up, as the load asks for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping

import psutil

from streams.adapters.triton.control import TritonControls
from streams.errors import DriftloopError
from streams.kafka.offsets import OffsetsClient, offsets_client
from streams.spec import Pipeline
from workers.devstack.cache import Notify
from workers.processes.loop import Loop, worker_name
from workers.processes.status import Status
from workers.resources.following import RoleScaling
from workers.resources.samples import Rows

_EVERY = 1.0
"""Seconds between two readings."""
_CALLED = {"score": "workers", "label": "labellers", "evaluate": "evaluators", "shadow": "shadows"}


class Scaling:
    """Follows the load until it is cancelled."""

    def __init__(self, loop: Loop, pipeline: Pipeline, status: Status, report: Notify) -> None:
        """`status` has the workers' numbers, and is told what is decided."""
        self._loop = loop
        self._status = status
        self._report = report
        fleet = Processes(loop, pipeline, status, report)
        self._roles = [
            RoleScaling(pipeline, role, fleet, count) for role, count in loop.following.items()
        ]
        self._limited: dict[str, str] = {}
        """What was told to limit the workers of a role, while it lasts."""
        self._shown: dict[str, str] = {}

    async def run(self) -> None:
        """Work until cancelled. While Kafka is away nothing is decided."""
        self._show("score", "starting")
        while True:
            try:
                async with offsets_client(self._loop.settings) as asked:
                    while True:
                        await self.look(asked)
                        await asyncio.sleep(_EVERY)
            except DriftloopError:  # whoever watches the servers says so
                self._show("score", "waiting for Kafka")
            await asyncio.sleep(_EVERY)

    async def look(self, asked: OffsetsClient) -> None:
        """Take readings, decide, and carry it out. Raises `Unavailable`."""
        for one in self._roles:
            before = one.workers
            decision = await one.look(asked)
            if decision is None:
                continue
            called = _CALLED[one.role]
            if decision.workers != before:
                self._report(f"{called} {before} -> {decision.workers}: {decision.reason}")
            elif decision.limited and decision.limited != self._limited.get(one.role):
                self._report(f"{called} {one.workers}: {decision.reason}")
            self._limited[one.role] = decision.limited
            self._show(one.role, decision.reason)

    def _show(self, role: str, reason: str) -> None:
        numbers = {one.role: one.workers for one in self._roles}
        if role == "score":
            self._shown[role] = f"workers {numbers[role]} (auto: {reason})"
        else:
            self._shown[role] = f"{_CALLED[role]} {numbers[role]}" if numbers[role] != 1 else ""
        self._status.scaling = ", ".join(filter(None, self._shown.values()))


class Processes:
    """A loop's workers: processes of this machine."""

    def __init__(self, loop: Loop, pipeline: Pipeline, status: Status, report: Notify) -> None:
        self._loop = loop
        self._name = pipeline.name
        self._status = status
        self._report = report
        self._machine = _Machine()

    def shown(self, role: str) -> Mapping[str, Rows]:
        """The numbers of each worker of a role that shows some, by its name."""
        return self._status.workers(role)

    async def cpu(self) -> float:
        """The share of this machine's cores that the loop uses."""
        return await asyncio.to_thread(self._machine.use)

    async def resize(self, role: str, before: int, after: int) -> None:
        """Start or stop workers. Where nobody scores any more, the model is unloaded."""
        supervisor = self._loop.supervisor
        for number in range(before + 1, after + 1):
            supervisor.add(self._loop.command(role, number))
        for number in range(before, after, -1):
            await supervisor.remove(worker_name(role, number))
        if role == "score" and not after:
            await self._unload()

    async def _unload(self) -> None:
        """Have no Triton hold the model; the next worker that finds it missing loads it."""
        control = TritonControls(self._loop.settings, self._name)
        try:
            await control.unload()
        except DriftloopError as error:
            self._report(f"the model stays loaded, though nobody asks it: {error}")
        finally:
            await control.close()


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
