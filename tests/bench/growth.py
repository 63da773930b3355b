"""How the cost of an event grows: with partitions, with workers, and with entities in the state.

    python -m tests.bench.growth --partitions 1 4 16 64 --workers 1 2 --json growth.json
    python -m tests.bench.feature_state --entities 10000 1000000

A backlog of card-fraud events is drained; rate and CPU time per event are taken from its middle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from streams.kafka import workarounds
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from tests.bench.loading import publish_network, write_events
from tests.bench.measuring import Limits, Span
from tests.bench.measuring import measure as measured
from tests.bench.open_loop import events
from tests.bench.reporting import cpu_model
from tests.bench.servers import servers
from tests.faults.harness import Workers, card_fraud_module
from workers.devstack.stack import Stack

out = Console(stderr=True)


async def drained(
    settings: Settings, stack: Stack, folder: Path, workers: int, backlog: int
) -> Span:
    """One backlog, in topics of its own, through so many workers."""
    redis.Redis.from_url(settings.redis.get_secret_value()).flushall()
    pipeline = card_fraud_module(folder, f"grow-{settings.partitions}-{workers}")
    await ensure_topics(settings, pipeline)
    await publish_network(settings, pipeline)
    await write_events(settings, pipeline, events(0, backlog))
    with Workers(settings, pipeline, folder) as group:
        started = [group.start("score") for _ in range(workers)]
        others = {f"worker-{n}": worker.pid for n, worker in enumerate(started[1:], 2)}
        processes = {**stack.pids(), **others}
        limits = Limits(backlog, 60.0)
        topic = pipeline.topics.predictions
        return await measured(settings, topic, started[0], processes, limits)


async def measure(options: argparse.Namespace, stack: Stack, settings: Settings) -> dict[str, Any]:
    """Every number of partitions with one worker, then every number of workers."""
    table = Table(
        "partitions", "workers", "events/s", "workers' CPU, µs/event", "Kafka", "Triton", "Valkey"
    )
    cases = [(n, 1) for n in options.partitions]
    cases += [(4, n) for n in options.workers if (4, n) not in cases]
    rows = []
    with TemporaryDirectory() as folder:
        for partitions, workers in cases:
            out.print(f"{partitions} partitions, {workers} workers ...")
            own = settings.model_copy(update={"partitions": partitions})
            span = await drained(own, stack, Path(folder), workers, options.events)
            mine = sum(v for k, v in span.cpu.items() if k.startswith(("contender", "worker")))
            servers_ = [round(span.cpu[name], 2) for name in ("kafka", "triton", "redis")]
            row = (partitions, workers, round(span.rate), round(mine, 2), *servers_)
            table.add_row(*(f"{value:,}" for value in row))
            rows.append(row)
    Console().print(table)
    return {"machine": cpu_model(), "columns": [str(c.header) for c in table.columns], "rows": rows}


def main() -> None:
    """Measure and print; see the module."""
    workarounds.apply()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--partitions", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--events", type=int, default=250_000, help="in each backlog")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with servers() as (stack, settings):
        report = asyncio.run(measure(options, stack, settings))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
