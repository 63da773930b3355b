"""Shares of Tritons of unequal speed, while one dies and another joins.

`python -m tests.bench.endpoints`. The Tritons are stand-ins (`tests.bench.tritons`): two cores are
too few for three real ones. What shares requests out is the real thing; the rival takes turns.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from streams.adapters.triton.endpoints import TritonEndpoints
from streams.adapters.triton.scorer import TritonScorer
from streams.errors import DriftloopError
from streams.ports.models import Scorer
from streams.settings import Settings
from tests.bench.tritons import FixedTriton
from tests.synthetic import declare

SERVICE = {"a": 0.004, "b": 0.008, "c": 0.016}
"""Seconds that each takes for a request."""
LOADS = {
    "full, 1 worker": (1, 12, 0.0),
    "full, 4 workers": (4, 3, 0.0),
    "part, 4 workers": (4, 6, 0.8),
}
"""Workers, requests under way at each, and the share that arrives of what the two slower can do
together; 0: as many as can be."""
SETTLE = 2.5
"""Seconds after one has joined or died."""


class InTurn:
    """The rival: each is asked in its turn, and the next where one fails."""

    def __init__(self, scorers: Sequence[TritonScorer]) -> None:
        self._scorers = scorers
        self._turn = itertools.count()

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Scorer.infer`."""
        first, error = next(self._turn), None
        for at in range(len(self._scorers)):
            try:
                return await self._scorers[(first + at) % len(self._scorers)].infer(
                    version, vectors
                )
            except DriftloopError as failed:
                error = failed
        assert error is not None
        raise error

    async def close(self) -> None:
        """Release connections."""
        await asyncio.gather(*(one.close() for one in self._scorers))


class Worker:
    """Requests of one worker, at a steady rate or as many as can be, which know of no other's."""

    def __init__(self, scorer: Scorer, at_once: int, every: float) -> None:
        """So many requests are under way at the most; one is due each `every` seconds, or 0."""
        self.scorer = scorer
        self.waits = list[float]()
        """Seconds from when each request was due to its answer."""
        self.failed = 0
        self._at_once = at_once
        self._every = every
        self._due = 0.0

    async def run(self) -> None:
        """Work until cancelled."""
        self._due = time.monotonic() + self._every * random.random()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._ask())

    async def _ask(self) -> None:
        vectors = np.zeros((16, 4), np.float32)
        while True:
            due = self._due if self._every else time.monotonic()
            self._due += self._every
            await asyncio.sleep(due - time.monotonic())
            try:
                await self.scorer.infer(1, vectors)
            except DriftloopError:
                self.failed += 1
            self.waits.append(time.monotonic() - due)


def scorers(name: str, settings: Settings, count: int) -> list[Scorer]:
    """One for each worker."""
    if name == "ours":
        made = [
            TritonEndpoints.of(settings, declare("shares"), repairing=False) for _ in range(count)
        ]
        for one in made:
            one.watch(lambda: (1,))
        return [*made]
    each = [settings.model_copy(update={"triton": one}) for one in settings.triton.split(",")]
    return [InTurn([TritonScorer(one, "shares", 1) for one in each]) for _ in range(count)]


async def measure(name: str, load: str, seconds: float, table: Table) -> None:
    """Three phases: two serve, all three, and two after one has died."""
    count, at_once, share = LOADS[load]
    servers = {key: FixedTriton(value) for key, value in SERVICE.items()}
    settings = Settings(triton=",".join(server.address for server in servers.values()))
    every = count / (share * (1 / SERVICE["b"] + 1 / SERVICE["c"])) if share else 0.0
    workers = [Worker(one, at_once, every) for one in scorers(name, settings, count)]
    await servers["a"].start()
    await servers["b"].start()
    running = [asyncio.create_task(one.run()) for one in workers]
    for phase, up in (("a and b", "ab"), ("c joins", "abc"), ("a dies", "bc")):
        if phase == "c joins":
            await servers["c"].start()
        if phase == "a dies":
            await servers["a"].die()
        await asyncio.sleep(SETTLE)  # what the change brings about is over
        before = Counter({key: server.answered for key, server in servers.items()})
        for one in workers:
            one.waits.clear()
        await asyncio.sleep(seconds)
        found = {key: servers[key].answered - before[key] for key in up}
        speeds = {key: 1 / SERVICE[key] for key in up}
        waits = [wait for one in workers for wait in one.waits]
        shares = {key: found[key] / sum(found.values()) for key in up}
        off = [shares[key] / (speeds[key] / sum(speeds.values())) for key in up]
        table.add_row(
            load,
            name,
            phase,
            ", ".join(f"{key} {shares[key]:.0%}" for key in up),
            f"{max(abs(one - 1) for one in off):.1%}",
            f"{len(waits) / seconds / sum(speeds.values()):.0%}",
            *(f"{1000 * np.quantile(waits, q):.0f}" for q in (0.5, 0.99, 1.0)),
            str(sum(one.failed for one in workers)),
        )
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await asyncio.gather(*(one.scorer.close() for one in workers))
    await asyncio.gather(*(server.die() for server in servers.values()))


async def run(seconds: float) -> None:
    """Ours and the rival."""
    names = ("load", "", "phase", "shares", "off", "of all", "p50 ms", "p99", "most", "failed")
    table = Table(*names, title="speeds a 250, b 125, c 62 requests a second")
    for load in LOADS:
        for name in ("ours", "in turn"):
            await measure(name, load, seconds, table)
    Console(width=120).print(table)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.endpoints", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    asyncio.run(run(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
