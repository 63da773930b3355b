"""Shares of Tritons of unequal speed, while one dies and another joins.

`python -m tests.bench.endpoints`. The Tritons are real gRPC servers of this process that speak its
protocol and take a fixed time for a request, one after another: two cores are too few for three
real ones. What shares requests out is the real thing, beside one that takes turns.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import service_pb2, service_pb2_grpc

from streams.adapters.triton.endpoints import TritonEndpoints
from streams.adapters.triton.scorer import TritonScorer
from streams.errors import DriftloopError
from streams.ports.models import Scorer
from streams.settings import Settings
from tests.synthetic import declare
from workers.devstack.servers import free_port

SERVICE = {"a": 0.004, "b": 0.008, "c": 0.016}
"""Seconds that each takes for a request."""
AT_ONCE = 12
"""Requests under way."""


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers one request after another, each in a fixed time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.port = free_port()
        self.answered = 0
        self._one = asyncio.Lock()
        self._server: Any = None

    async def start(self) -> None:
        """Take requests; again on the same port where it was stopped."""
        self._server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def die(self) -> None:
        """Answer nothing more: what is under way fails."""
        await self._server.stop(None)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Scores of zero."""
        async with self._one:
            await asyncio.sleep(self.seconds)
        self.answered += 1
        rows = request.inputs[0].shape[0]
        return service_pb2.ModelInferResponse(
            model_name=request.model_name,
            outputs=[
                service_pb2.ModelInferResponse.InferOutputTensor(
                    name="scores", datatype="FP32", shape=[rows, 1]
                )
            ],
            raw_output_contents=[bytes(4 * rows)],
        )


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


class Load:
    """Requests under way all the time."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.done = 0
        self.failed = 0
        self.slowest = 0.0

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._ask())

    async def _ask(self) -> None:
        vectors = np.zeros((16, 4), np.float32)
        while True:
            begun = time.monotonic()
            try:
                await self._scorer.infer(1, vectors)
                self.done += 1
            except DriftloopError:
                self.failed += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)


async def measure(name: str, seconds: float, table: Table) -> None:
    """Three phases: two serve, all three, and two after one has died."""
    servers = {key: Server(value) for key, value in SERVICE.items()}
    settings = Settings(triton=",".join(f"127.0.0.1:{s.port}" for s in servers.values()))
    one_by_one = [
        settings.model_copy(update={"triton": address}) for address in settings.triton.split(",")
    ]
    scorer: Scorer
    if name == "ours":
        scorer = ours = TritonEndpoints.of(settings, declare("shares"), repairing=False)
        ours.watch(lambda: (1,))
    else:
        scorer = InTurn([TritonScorer(one, "shares", 1) for one in one_by_one])
    await servers["a"].start()
    await servers["b"].start()
    load = Load(scorer)
    running = asyncio.create_task(load.run())
    for phase, up in (("a and b", "ab"), ("c joins", "abc"), ("a dies", "bc")):
        if phase == "c joins":
            await servers["c"].start()
        if phase == "a dies":
            await servers["a"].die()
        await asyncio.sleep(2.0)  # what the change brings about is over
        before = Counter({key: server.answered for key, server in servers.items()})
        done, load.slowest = load.done, 0.0
        await asyncio.sleep(seconds)
        found = {key: servers[key].answered - before[key] for key in up}
        speeds = {key: 1 / SERVICE[key] for key in up}
        off = [found[k] / sum(found.values()) / (speeds[k] / sum(speeds.values())) for k in up]
        worst = max(abs(one - 1) for one in off)
        used = (load.done - done) / seconds / sum(speeds.values())
        shares = ", ".join(f"{k} {found[k] / sum(found.values()):.0%}" for k in up)
        row = (f"{worst:.1%}", f"{used:.0%}", f"{load.slowest * 1000:.0f} ms", str(load.failed))
        table.add_row(name, phase, shares, *row)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await scorer.close()
    for server in servers.values():
        await server.die()


async def run(seconds: float) -> None:
    """Ours and the rival."""
    title = "speeds a 250, b 125, c 62 requests a second, 12 at once"
    table = Table("", "phase", "shares", "off", "of all they can", "slowest", "failed", title=title)
    for name in ("ours", "in turn"):
        await measure(name, seconds, table)
    Console().print(table)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.endpoints", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    asyncio.run(run(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
