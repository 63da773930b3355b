"""From an event's due time to its prediction in a consumer's hands, against the floor.

    python -m tests.bench.latency --json latency.json

The load is open-loop, at shares of the maximum that the worker reaches on a backlog, with windows
that are as full as they get: 30 days of events come before all. The floor, at
the same rates in the same run: the same producer and consumer on one topic with nothing between
them, plus a bare call of Triton with a batch as large as the worker's were. Events of the first
eight seconds do not count, and before the first rate there is half the maximum for `--warm`
seconds: so long Kafka compiles what a new rate, topic or mode has made hot.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from rich.console import Console
from rich.table import Table

from streams.adapters.triton.scorer import TritonScorer
from streams.kafka import workarounds
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from streams.spec import Pipeline
from tests.bench.loading import publish_network, write_events
from tests.bench.measuring import Limits
from tests.bench.measuring import measure as measured
from tests.bench.open_loop import events
from tests.bench.reporting import cpu_model
from tests.bench.servers import servers
from tests.faults.harness import ROOT, Worker, Workers, card_fraud_module

WARM_SECONDS = 8.0
FILL = 200_000
"""Events until windows of 30 days are full."""
LEVELS = (50, 95, 99, 100)
Samples = NDArray[np.float64]
out = Console(stderr=True)


@dataclass
class Latency:
    """Percentiles in milliseconds."""

    what: str
    share: float
    rate: float
    p50: float
    p95: float
    p99: float
    max: float
    batch: float = 0.0
    """Events of a micro-batch, mean."""

    @classmethod
    def of(cls, what: str, share: float, rate: float, seconds: Any, batch: float = 0) -> Latency:
        found = np.asarray(seconds)[np.isfinite(seconds)] * 1000
        p50, p95, p99, largest = np.percentile(found, LEVELS).round(2).tolist()
        return cls(what, share, rate, p50, p95, p99, largest, batch)


def side(name: str, settings: Settings, topic: str, *options: object) -> subprocess.Popen[str]:
    """One side of the open loop, as a process."""
    command = [sys.executable, "-m", "tests.bench.open_loop", name, "--kafka", settings.kafka]
    return subprocess.Popen(
        [*command, "--topic", topic, *map(str, options)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


async def latencies(
    settings: Settings, source: str, sink: str, first: int, rate: float, seconds: float
) -> Samples:
    """Seconds from due to arrived of the sampled events after the warm-up."""
    due, arrived = await arrivals(settings, source, sink, first, rate, seconds)
    spent: Samples = (arrived - due)[int(rate * WARM_SECONDS) :]
    return spent


async def arrivals(
    settings: Settings, source: str, sink: str, first: int, rate: float, seconds: float
) -> tuple[Samples, Samples]:
    """Monotonic times at which each event was due, and arrived: NaN where it is no sample."""
    count = int(rate * seconds)
    with TemporaryDirectory() as directory:
        file = Path(directory) / "arrived.npy"
        observer = side(
            "observe", settings, sink, "--first", first, "--events", count, "--out", file
        )
        assert observer.stdout is not None
        assert (await asyncio.to_thread(observer.stdout.readline)).strip() == "ready"
        load = side(
            "produce", settings, source, "--first", first, "--rate", rate, "--seconds", seconds
        )
        assert load.stdout is not None
        start = float(await asyncio.to_thread(load.stdout.readline))
        seen = int(await asyncio.to_thread(observer.stdout.readline))
        load.wait(30)
        observer.wait(30)
        arrived = np.load(file)
    assert seen == count, f"{seen:,} of {count:,} events arrived"
    return start + np.arange(count) / rate, arrived


def metrics(worker: Worker) -> list[Sample]:
    """What a worker's metrics say now."""
    url = next(line for line in worker.log.read_text().splitlines() if "serving metrics" in line)
    with urlopen(json.loads(url[url.index("{") :])["at"]) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return [sample for family in families for sample in family.samples]


def batches(worker: Worker) -> tuple[float, float]:
    """Micro-batches so far, and the records in them."""
    found = {sample.name: sample.value for sample in metrics(worker)}
    return found["driftloop_batch_records_count"], found["driftloop_batch_records_sum"]


async def bare_calls(
    settings: Settings, pipeline: Pipeline, rows: int, pause: float, until: asyncio.Event
) -> list[float]:
    """Seconds of Triton calls with so many rows."""
    scorer = TritonScorer(settings, pipeline.name, pipeline.model.outputs)
    vectors = np.zeros((max(1, rows), len(pipeline.feature_names)), np.float32)
    spent = []
    try:
        while not until.is_set():
            begun = time.perf_counter()
            await scorer.infer(1, vectors)
            spent.append(time.perf_counter() - begun)
            await asyncio.sleep(pause)
    finally:
        await scorer.close()
    return spent


async def floor(
    settings: Settings, pipeline: Pipeline, ours: Latency, seconds: float
) -> tuple[Latency, Latency]:
    """The echo and the bare call at the rate and with the batches of one of our measurements."""
    topic = f"echo-{ours.what}-{ours.share:g}".replace("_", "-")
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, settings.partitions, 1)])
    await admin.close()
    done = asyncio.Event()
    pause = max(0.0, ours.batch / ours.rate - 0.001)
    calls = asyncio.create_task(bare_calls(settings, pipeline, round(ours.batch), pause, done))
    echo = await latencies(settings, topic, topic, 0, ours.rate, seconds)
    done.set()
    return (
        Latency.of("echo", ours.share, ours.rate, echo),
        Latency.of("triton", ours.share, ours.rate, await calls, ours.batch),
    )


async def maximum(settings: Settings, pipeline: Pipeline, worker: Worker, backlog: int) -> float:
    """Events per second on a backlog, once the windows are full."""
    predictions = pipeline.topics.predictions
    await measured(settings, predictions, worker, {}, Limits(FILL, 120.0))
    worker.suspend()
    await write_events(settings, pipeline, events(FILL, backlog))
    worker.resume()
    span = await measured(settings, predictions, worker, {}, Limits(FILL + backlog, 60.0))
    return span.rate


async def measure(options: argparse.Namespace, settings: Settings, folder: Path) -> dict[str, Any]:
    """All rates in all modes, each with its floor."""
    report: dict[str, Any] = {"machine": cpu_model(), "modes": {}}
    for delivery in options.delivery:
        pipeline = card_fraud_module(folder, f"latency-{delivery}".replace("_", "-"))
        own = settings.model_copy(update={"delivery": delivery})
        await ensure_topics(own, pipeline)
        await publish_network(own, pipeline)
        await write_events(own, pipeline, events(0, FILL))
        with Workers(own, pipeline, folder) as workers:
            out.print(f"{delivery}: the maximum on a backlog ...")
            worker = workers.start("score")
            most = options.maximum or await maximum(own, pipeline, worker, options.backlog)
            rows, resident, first = [], [_resident(worker)], FILL + options.backlog
            out.print(f"{delivery}: {most:,.0f} events/s")
            warm = (most / 2, options.warm)
            await arrivals(own, pipeline.topics.events, pipeline.topics.predictions, first, *warm)
            first += int(most / 2 * options.warm)
            for share in options.shares:
                before = batches(worker)
                topics, rate = pipeline.topics, share * most
                spent = await latencies(
                    own, topics.events, topics.predictions, first, rate, options.seconds
                )
                first += len(spent) + int(rate * WARM_SECONDS) + 1
                after = batches(worker)
                size = (after[1] - before[1]) / (after[0] - before[0])
                ours = Latency.of(delivery, share, rate, spent, round(size, 1))
                rows.append((ours, *await floor(own, pipeline, ours, options.seconds)))
                resident.append(_resident(worker))
                out.print(_line(rows[-1]))
        report["modes"][delivery] = {
            "maximum": round(most),
            "resident_mb": resident,
            "rates": [[asdict(part) for part in row] for row in rows],
        }
        _table(delivery, rows, settings.transaction_ms, resident)
    return report


def _resident(worker: Worker) -> float:
    return round(float(psutil.Process(worker.pid).memory_info().rss) / 1e6, 1)


def _line(row: tuple[Latency, Latency, Latency]) -> str:
    ours, echo, call = row
    return (
        f"{ours.what} at {ours.share:.0%}: p99 {ours.p99:.1f} ms, "
        f"floor {echo.p99 + call.p99:.1f} ms"
    )


def _table(
    delivery: str, rows: list[tuple[Latency, Latency, Latency]], span: float, resident: list[float]
) -> None:
    table = Table(
        "load",
        "events/s",
        "batch",
        "p50",
        "p95",
        "p99",
        "max",
        "floor p50",
        "floor p99",
        "p99 against",
        title=f"{delivery}, milliseconds",
    )
    for ours, echo, call in rows:
        least = echo.p99 + call.p99
        against = f"{ours.p99 / least:.2f}x the floor"
        if delivery == "exactly_once":
            against = f"{(ours.p99 - span) / least:.2f}x the floor + {span:g}"
        figures = (ours.p50, ours.p95, ours.p99, ours.max, echo.p50 + call.p50, least)
        table.add_row(
            f"{ours.share:.0%}",
            f"{ours.rate:,.0f}",
            f"{ours.batch:.0f}",
            *(f"{figure:.1f}" for figure in figures),
            against,
        )
    Console().print(table)
    Console().print(f"worker's resident memory, MB: {', '.join(map(str, resident))}")


def main() -> None:
    """Measure and print; see the module."""
    workarounds.apply()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = ["at_least_once", "exactly_once"]
    parser.add_argument("--delivery", nargs="+", choices=modes, default=modes)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.5, 0.8])
    parser.add_argument("--seconds", type=float, default=25.0, help="of load at each rate")
    parser.add_argument("--warm", type=float, default=30.0, help="seconds of load before all")
    parser.add_argument("--backlog", type=int, default=200_000, help="events, for the maximum")
    parser.add_argument("--maximum", type=float, help="events/s to take shares of, instead")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with servers() as (_, settings), TemporaryDirectory() as folder:
        report = asyncio.run(measure(options, settings, Path(folder)))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
