"""Faults of what scales: the scaler, and who carries out what is decided."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random
from typing import Any

import psutil

from streams.spec import Pipeline
from tests.faults.harness import Workers
from tests.faults.marks import WORKER_LIMIT, Mark, Recovered
from tests.faults.schedule import Kind
from tests.waiting import until
from workers.devstack.servers import free_port
from workers.processes.watching import fetch

SHOWN, TOLD = free_port(), free_port()
"""Where a scoring worker shows its metrics, and the scaler how many workers are wanted."""
_START = 40.0
_MOST = 3
_SCALING = 12.0
"""Seconds in which a loop has started some workers, and stopped them."""


class Scaled:
    """Does those faults."""

    def __init__(
        self, pipeline: Pipeline, workers: Workers, random: Random, recovered: Recovered
    ) -> None:
        self._gauge = f'driftloop_wanted_workers{{pipeline="{pipeline.name}",role="score"}}'
        self._workers = workers
        self._random = random
        self._recovered = recovered

    async def told(self) -> None:
        """Return when the scaler says how many are wanted."""

        async def tells() -> bool:
            try:
                return self._gauge in await fetch(f"http://127.0.0.1:{TOLD}/metrics")
            except OSError:
                return False

        await until(tells, "the scaler tells how many workers are wanted", _START)

    async def scaler_was_killed(self, at: float) -> None:
        """Its successor says it again; nobody else notices."""
        await self.told()
        await self._recovered(Mark(Kind.scale_kill, at, 0.0, WORKER_LIMIT))

    async def kill_resizer(self) -> None:
        """Who changes the instances dies at some point of it; scoring goes on."""
        count = str(self._random.randint(1, _MOST))
        resizer = self._workers.start("resize", ("tests.faults.resizing", count, "resize"))
        await until(lambda: "changing" in resizer.said() or not resizer.alive, "it begins", _START)
        await asyncio.sleep(self._random.uniform(0.0, 0.4))
        if resizer.alive:
            resizer.kill()
        killed = time.time()
        await self._recovered(Mark(Kind.resize_kill, killed, killed, WORKER_LIMIT))

    async def kill_up(self, disk: Path) -> None:
        """A loop dies while it starts and stops workers: those that it had end in order."""
        loop = self._workers.start("up", ("tests.faults.rescaling",), state_dir=disk)
        await until(lambda: "scaling" in loop.said() or not loop.alive, "it is up", _START)
        await asyncio.sleep(self._random.uniform(0.0, _SCALING))
        assert loop.alive, loop.said()
        children = psutil.Process(loop.pid).children(recursive=True)
        loop.kill()
        killed = time.time()
        await until(lambda: not any(map(runs, children)), "its workers have gone", _START)
        await self._recovered(Mark(Kind.up_kill, killed, killed, WORKER_LIMIT))


def runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that waits to be collected has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def placed(name: str) -> dict[str, Any]:
    """The settings of the scaler, and of a worker that it has to find."""
    if name == "scale-1":
        return {"workers": f"127.0.0.1:{SHOWN}", "metrics_port": TOLD}
    return {"metrics_port": SHOWN} if name == "score-1" else {}
