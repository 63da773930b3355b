"""Instances follow Triton's load: what is gained, and whether a request fails on the way.

`python -m tests.bench.instances`. Triton is a stand-in whose instances take a fixed time
(`tests.bench.tritons`), so that there is room for more of them on any machine; Kafka and the ledger
are real, and so is what measures, decides and carries it out. The rival keeps one instance.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from prometheus_client import REGISTRY, generate_latest
from rich.console import Console
from rich.table import Table

from streams.adapters.triton.endpoints import TritonEndpoints
from streams.adapters.triton.load import TritonLoads
from streams.kafka.topics import ensure_topics
from streams.ledger.state import LedgerState
from streams.ledger.topic import append, new_entry
from streams.records import Action
from streams.settings import Settings
from streams.spec import Infer, Pipeline, Policies, Scale
from tests.bench.endpoints import Worker
from tests.bench.servers import servers
from tests.bench.tritons import FixedTriton
from tests.models import linear, manifest
from tests.synthetic import declare
from tests.waiting import until
from workers.processes.instances import InstanceScaling
from workers.releases.publisher import Publisher
from workers.resources.decision import FULL, Servers
from workers.resources.samples import rows
from workers.resources.samples import servers as seen

SECONDS = 0.008
"""That an instance takes for a request."""
WORKERS, AT_ONCE = 4, 4
MOST = 4


async def serve(settings: Settings, pipeline: Pipeline) -> None:
    """Version 1 serves; nobody checks its scores, which the stand-in does not compute."""
    await ensure_topics(settings, pipeline)
    publisher, data = Publisher(settings, pipeline), linear(4)
    first = manifest(pipeline, 1, data)
    publisher.stage(first, data, "")
    publisher.loading.configure([1])
    await publisher.control.load()
    await publisher.close()
    await append(settings, pipeline, new_entry(Action.PROMOTE, first, LedgerState(), "first"))


class Following:
    """Looks each second, as `driftloop up --workers auto` does."""

    def __init__(self, settings: Settings, pipeline: Pipeline, cpu: float) -> None:
        self._loads = TritonLoads(settings, pipeline.name)
        self._scaling = InstanceScaling.of(settings, pipeline)
        self._cpu = cpu
        self.said = list[str]()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._loads.look()
            if self._scaling and (said := await self._scaling.look(self._servers())):
                self.said.append(said)
            await asyncio.sleep(1.0)

    def _servers(self) -> Servers:
        """As loaded as Triton says it is; workers do nothing but wait for it."""
        found = seen([rows(generate_latest(REGISTRY).decode())])
        return replace(found, waiting=1.0, cpu=self._cpu)

    async def close(self) -> None:
        """Release the connections."""
        await self._loads.close()
        if self._scaling:
            await self._scaling.close()


async def measure(
    settings: Settings, name: str, most: int | None, cpu: float, seconds: float, table: Table
) -> Sequence[str]:
    """A load of as many requests as can be, and then none; returns what was said."""
    policies = Policies(infer=Infer(most_instances=most), scale=Scale(idle="10s"))
    pipeline = replace(declare(name), policies=policies)
    publisher = Publisher(settings, pipeline)
    triton = FixedTriton(SECONDS, publisher.repository)
    await triton.start()
    settings = settings.model_copy(update={"triton": triton.address})
    await serve(settings, pipeline)
    scorers = [TritonEndpoints.of(settings, pipeline, repairing=False) for _ in range(WORKERS)]
    workers = [Worker(one, AT_ONCE, 0.0) for one in scorers]
    following = Following(settings, pipeline, cpu)
    follows = asyncio.create_task(following.run())
    running = [asyncio.create_task(one.run()) for one in workers]
    begun = time.monotonic()
    for quarter in range(1, 5):
        for one in workers:
            one.waits.clear()
        await asyncio.sleep(begun + quarter * seconds / 4 - time.monotonic())
        waits = [wait for one in workers for wait in one.waits]
        table.add_row(
            name,
            f"{quarter * seconds / 4:.0f} s",
            str(len(triton.free)),
            f"{len(waits) / seconds * 4:.0f}",
            f"{1000 * np.quantile(waits, 0.99):.0f}",
            str(sum(one.failed for one in workers)),
        )
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    rest = time.monotonic()
    await until(lambda: len(triton.free) == 1, "as few as at first", within=90.0)
    table.add_row(name, f"at rest +{time.monotonic() - rest:.0f} s", str(len(triton.free)), *"---")
    follows.cancel()
    await asyncio.gather(follows, return_exceptions=True)
    await asyncio.gather(*(one.close() for one in scorers), following.close(), publisher.close())
    await triton.die()
    return [f"{name}: {line}" for line in following.said]


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.instances", description=__doc__)
    parser.add_argument("--seconds", type=float, default=88.0, help="of load")
    seconds = parser.parse_args().seconds
    names = ("", "until", "instances", "requests/s", "p99 ms", "failed")
    table = Table(*names, title=f"an instance does {1 / SECONDS:.0f} requests a second")

    async def run(settings: Settings) -> list[str]:
        said = list[str]()
        said += await measure(settings, "fixed", None, 0.3, seconds / 4, table)
        said += await measure(settings, "cores-full", MOST, FULL, seconds / 2, table)
        said += await measure(settings, "following", MOST, 0.3, seconds, table)
        return said

    with servers() as (_, settings):
        no_tls = {"triton_tls": False} | {f"triton_{k}file": None for k in ("ca", "cert", "key")}
        said = asyncio.run(run(settings.model_copy(update=no_tls)))
    Console(width=120).print(table)
    print("\n".join(said))


if __name__ == "__main__":
    main()
