"""What publishing a version costs the events that arrive meanwhile.

    python -m tests.bench.publish --rate 5000 --times 10 --json publish.json

An open-loop load of card fraud; new versions are published under it the way the trainer does it:
judged, put into the repository, loaded, warmed up, compared, promoted. Events that were due between
a publish's begin and half a second after its end are set against all others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from streams.kafka import workarounds
from streams.kafka.topics import ensure_topics
from streams.ledger.topic import read_state
from streams.records import Action
from streams.settings import Settings
from streams.spec import Pipeline
from tests.bench.latency import WARM_SECONDS, Latency, arrivals, metrics
from tests.bench.loading import publish_network
from tests.bench.reporting import cpu_model
from tests.bench.servers import servers
from tests.faults.harness import Worker, Workers, card_fraud_module
from tests.models import linear, manifest
from tests.waiting import until
from workers.releases.candidate import Judged
from workers.releases.lifecycle import Lifecycle

PAUSE = 3.0
"""Seconds from a publish's end to the next one's begin."""
AFTER = 0.5
"""Seconds after a publish's end in which events still count as met by it."""

Span = tuple[float, float]


async def publish(settings: Settings, pipeline: Pipeline, lifecycle: Lifecycle) -> Span:
    """Promote one more version; returns when it began and ended, monotonic."""
    begun = time.monotonic()
    now = await read_state(settings, pipeline)
    data = linear(len(pipeline.feature_names), bias=0.1 * len(now.promoted), factor=1e-4)
    made = manifest(pipeline, 1, data, parent=now.champion)
    decided = await lifecycle.release(
        Judged(made, data, Action.PROMOTE, "a new version under load")
    )
    assert decided.action == "promote", decided.action
    return begun, time.monotonic()


async def publishes(settings: Settings, pipeline: Pipeline, times: int) -> list[Span]:
    """So many publishes, one after the other."""
    lifecycle = Lifecycle(settings, pipeline)
    spans = []
    try:
        for _ in range(times):
            await asyncio.sleep(PAUSE)
            spans.append(await publish(settings, pipeline, lifecycle))
    finally:
        await lifecycle.close()
    return spans


def failures(worker: Worker) -> int:
    """Requests for scores that were repeated, and events that the fallback answered."""
    found = metrics(worker)
    retried = sum(
        s.value
        for s in found
        if s.name == "driftloop_retries_total" and s.labels["stage"] == "infer"
    )
    return int(retried + sum(s.value for s in found if s.name == "driftloop_degraded_total"))


async def measure(options: argparse.Namespace, settings: Settings, folder: Path) -> dict[str, Any]:
    """Every mode: latency while a version is published, latency otherwise, failed requests."""
    report: dict[str, Any] = {"machine": cpu_model(), "modes": {}}
    table = Table(
        "mode",
        "publish, s",
        "failed",
        "steady p50",
        "p99",
        "publishing p50",
        "p99",
        "p99 against steady",
    )
    for delivery in options.delivery:
        pipeline = card_fraud_module(folder, f"publish-{delivery}".replace("_", "-"))
        own = settings.model_copy(update={"delivery": delivery})
        await ensure_topics(own, pipeline)
        await publish_network(own, pipeline)
        with Workers(own, pipeline, folder) as workers:
            worker = workers.start("score")
            await until(worker.joined, "the worker has partitions")
            before = failures(worker)
            load = asyncio.create_task(_load(own, pipeline, options))
            await asyncio.sleep(WARM_SECONDS)
            spans = await publishes(own, pipeline, options.times)
            due, arrived = await load
            failed = failures(worker) - before
        steady, met = _split(due, arrived, spans)
        rows = [
            Latency.of(what, 0, options.rate, spent)
            for what, spent in (("steady", steady), ("publishing", met))
        ]
        took = float(np.median([end - begun for begun, end in spans]))
        ratio = rows[1].p99 / rows[0].p99
        table.add_row(
            delivery,
            f"{took:.2f}",
            str(failed),
            *(f"{figure:.1f}" for row in rows for figure in (row.p50, row.p99)),
            f"{ratio:.2f}x",
        )
        report["modes"][delivery] = {
            "publish_s": took,
            "failed": failed,
            "ratio": ratio,
            "rows": [asdict(r) for r in rows],
        }
    Console().print(table)
    return report


async def _load(settings: Settings, pipeline: Pipeline, options: argparse.Namespace) -> Any:
    seconds = 2 * WARM_SECONDS + options.times * (PAUSE + 2.0)
    topics = pipeline.topics
    return await arrivals(settings, topics.events, topics.predictions, 0, options.rate, seconds)


def _split(due: Any, arrived: Any, spans: Sequence[Span]) -> tuple[Any, Any]:
    """Latencies of the events that met no publish, and of those that met one."""
    met = np.zeros(len(due), bool)
    for begun, end in spans:
        met |= (due >= begun) & (due < end + AFTER)
    counted = np.isfinite(arrived) & (due >= due[0] + WARM_SECONDS)
    return (arrived - due)[counted & ~met], (arrived - due)[counted & met]


def main() -> None:
    """Measure and print; see the module."""
    workarounds.apply()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = ["at_least_once", "exactly_once"]
    parser.add_argument("--delivery", nargs="+", choices=modes, default=modes)
    parser.add_argument("--rate", type=float, default=5000.0, help="events a second")
    parser.add_argument("--times", type=int, default=10, help="versions to publish in each mode")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with servers() as (_, settings), TemporaryDirectory() as folder:
        report = asyncio.run(measure(options, settings, Path(folder)))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
