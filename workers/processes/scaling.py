"""Starts and stops the workers of a loop that is up, as the load asks for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping

import psutil

from streams.errors import DriftloopError
from streams.kafka.offsets import OffsetsClient, offsets_client
from streams.spec import Pipeline
from workers.fetching import Notify
from workers.processes.instances import InstanceScaling
from workers.processes.loop import Loop, worker_name
from workers.processes.status import Status
from workers.resources.following import RoleScaling
from workers.resources.idling import unload
from workers.resources.samples import Rows

_EVERY = 1.0
"""Seconds between two readings."""


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
        self._instances = InstanceScaling.of(loop.settings, pipeline)
        self._reason = "starting"

    async def run(self) -> None:
        """Work until cancelled. While Kafka is away nothing is decided."""
        self._show()
        try:
            while True:
                try:
                    async with offsets_client(self._loop.settings) as asked:
                        while True:
                            await self.look(asked)
                            await asyncio.sleep(_EVERY)
                except DriftloopError:  # whoever watches the servers says so
                    self._reason = "waiting for Kafka"
                    self._show()
                await asyncio.sleep(_EVERY)
        finally:
            if self._instances is not None:
                await self._instances.close()

    async def look(self, asked: OffsetsClient) -> None:
        """Take readings, decide, and carry it out. Raises `Unavailable`."""
        for one in self._roles:
            decision = await one.look(asked)
            if one.news:
                self._report(one.news)
            if decision and one is self._roles[0]:
                self._reason = decision.reason
        servers = self._roles[0].servers
        if self._instances and (told := await self._instances.look(servers)):
            self._report(told)
        self._show()

    def _show(self) -> None:
        first, *others = self._roles
        more = [f", {one}" for one in others if one.workers != 1]
        more += [f", {self._instances}"] if self._instances else []
        self._status.scaling = f"{first} (auto: {self._reason}{''.join(more)})"


class Processes:
    """A loop's workers: processes of this machine."""

    def __init__(self, loop: Loop, pipeline: Pipeline, status: Status, report: Notify) -> None:
        self._loop = loop
        self._name = pipeline.name
        self._status = status
        self._report = report
        self._machine = _Machine()
        self._asked, self._cpu = -_EVERY, 0.0

    def shown(self, role: str) -> Mapping[str, Rows]:
        """The numbers of each worker of a role that shows some, by its name."""
        return self._status.workers(role)

    async def cpu(self) -> float:
        """The share of this machine's cores that the loop uses; one answer for all roles."""
        if time.monotonic() - self._asked >= _EVERY / 2:
            self._asked = time.monotonic()
            self._cpu = await asyncio.to_thread(self._machine.use)
        return self._cpu

    async def resize(self, role: str, before: int, after: int) -> None:
        """Start or stop workers. Where nobody scores any more, the model is unloaded."""
        supervisor = self._loop.supervisor
        for number in range(before + 1, after + 1):
            supervisor.add(self._loop.command(role, number))
        for number in range(before, after, -1):
            await supervisor.remove(worker_name(role, number))
        if role == "score" and not after:
            await unload(self._loop.settings, self._name, self._report)


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
