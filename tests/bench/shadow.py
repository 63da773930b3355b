"""What a roll-out costs: the shadow's throughput, and what scoring beside it takes longer.

    python -m tests.bench.shadow --json shadow.json

Card fraud with full windows. First the shadow alone works off what was served of a backlog, then
scoring is measured under an open-loop load, in turn without a roll-out, and with a shadow that
keeps up and a canary that serves a share of the entities. All of it shares the machine: servers,
load, observer, scoring and the shadow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console
from rich.table import Table

from streams.kafka import workarounds
from streams.kafka.connection import client_options
from streams.kafka.offsets import offsets_client
from streams.kafka.topics import ensure_topics, group_id
from streams.ledger.topic import append, new_entry, read_state
from streams.records import Action, Manifest
from streams.settings import Settings
from streams.spec import Pipeline
from tests.bench.latency import FILL, Latency, arrivals, maximum
from tests.bench.loading import untrained, write_events
from tests.bench.measuring import Limits, Span, measure
from tests.bench.open_loop import events
from tests.bench.reporting import cpu_model
from tests.bench.servers import servers
from tests.faults.harness import Workers, card_fraud_module
from tests.models import challenge, publish_rivals

CANARY = 0.05
FLOOR = 1.2
"""Scoring's p99 with shadow and canary is at most so many times what it is without: the median of
pairs of rounds, each right after the other, since a shared machine's speed drifts."""
_WARM_SHARE = 0.25
"""Of what scoring does at most: the load before all, by whose CPU the rate is chosen."""
_SETTLING = 3.0
"""Seconds at the start of each round that do not count."""
_KEPT_UP = 1.0
"""Seconds in which a shadow that has caught up writes nothing, while nothing is scored."""
out = Console(stderr=True)


async def throughput(settings: Settings, pipeline: Pipeline, workers: Workers, count: int) -> Span:
    """The shadow alone, on so many served events."""
    shadow = workers.start("shadow")
    span = await measure(settings, pipeline.topics.shadow, shadow, {}, Limits(count, 60.0))
    shadow.end()
    return span


async def serve_share(settings: Settings, pipeline: Pipeline, version: Manifest) -> None:
    """The version serves the canary's share from now on."""
    entry = new_entry(Action.CANARY, version, await read_state(settings, pipeline), "a benchmark")
    await append(settings, pipeline, msgspec.structs.replace(entry, share=CANARY))


async def caught_up(settings: Settings, pipeline: Pipeline) -> None:
    """Wait until the shadow writes nothing more."""
    consumer = AIOKafkaConsumer(**client_options(settings), isolation_level="read_committed")
    await consumer.start()
    topic = pipeline.topics.shadow
    partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
    before, now = -1, 0
    try:
        while now != before or not now:
            before, now = now, sum((await consumer.end_offsets(partitions)).values())
            await asyncio.sleep(2 * _KEPT_UP if now != before else 0.0)
    finally:
        await consumer.stop()


async def behind(settings: Settings, pipeline: Pipeline) -> int:
    """How many served events the shadow has not committed: it works while others leave it CPU."""
    topic = pipeline.topics.scored
    async with offsets_client(settings) as asked:
        ends = await asked.ends(topic)
        committed = await asked.committed(group_id(pipeline.name, "shadow"), topic, ends)
    return sum(end - (committed[number] or 0) for number, end in ends.items())


async def compare(options: argparse.Namespace, settings: Settings, folder: Path) -> dict[str, Any]:
    """The shadow's throughput, and scoring without and with it in turn."""
    pipeline = card_fraud_module(folder, "shadow-bench")
    topics, served = pipeline.topics, FILL + options.backlog
    await ensure_topics(settings, pipeline)
    second = await publish_rivals(settings, pipeline, *(untrained(pipeline, n) for n in (1, 2)))
    await challenge(settings, pipeline, second)
    await write_events(settings, pipeline, events(0, FILL))
    with Workers(settings, pipeline, folder) as workers:
        worker = workers.start("score")
        most = await maximum(settings, pipeline, worker, options.backlog)
        out.print(f"scoring: {most:,.0f} events/s on a backlog")
        span = await throughput(settings, pipeline, workers, served)
        out.print(f"shadow: {span.rate:,.0f} events/s, {span.cpu['contender']:.1f} us of CPU each")
        rate, first = options.rate or _WARM_SHARE * most, served
        psutil.cpu_percent()
        await arrivals(settings, topics.events, topics.predictions, first, rate, options.warm)
        first += int(rate * options.warm)
        if not options.rate:
            rate *= 100 * options.busy / psutil.cpu_percent()
        found: dict[str, list[Latency]] = {"without": [], "with": []}
        busy: dict[str, list[float]] = {"without": [], "with": []}
        lags: list[int] = []
        for number in range(2 * options.rounds):
            what = ("without", "with")[number % 2]
            shadow = workers.start("shadow") if what == "with" else None
            await challenge(settings, pipeline, second)  # in the shadow: it serves nobody
            if shadow is not None:
                await caught_up(settings, pipeline)
                await serve_share(settings, pipeline, second)
            psutil.cpu_percent()
            due, arrived = await arrivals(
                settings, topics.events, topics.predictions, first, rate, options.seconds
            )
            busy[what].append(psutil.cpu_percent())
            first += len(due) + 1
            spent = (arrived - due)[int(rate * _SETTLING) :]
            found[what].append(Latency.of(what, rate / most, rate, spent))
            out.print(
                f"{what}: p50 {found[what][-1].p50:.1f}, p99 {found[what][-1].p99:.1f} ms, "
                f"{busy[what][-1]:.0f} % of the machine's CPU"
            )
            if shadow is not None:
                lags.append(await behind(settings, pipeline))
                shadow.end()
    pairs = zip(found["without"], found["with"], strict=True)
    ratio = median(beside.p99 / alone.p99 for alone, beside in pairs)
    return {
        "machine": cpu_model(),
        "scoring": round(most),
        "shadow": round(span.rate),
        "shadow_cpu_us": round(span.cpu["contender"], 1),
        "rate": round(rate),
        "p50": {what: [one.p50 for one in rounds] for what, rounds in found.items()},
        "p99": {what: [one.p99 for one in rounds] for what, rounds in found.items()},
        "busy": busy,
        "ratio": round(ratio, 2),
        "behind": lags,
    }


def _print(report: dict[str, Any]) -> None:
    head = ("", "p50, ms", "p99, ms", "CPU busy, %")
    table = Table(*head, title=f"scoring {report['rate']:,} events/s")
    for what in ("without", "with"):
        columns = (
            ", ".join(f"{one:.0f}" for one in report[name][what]) for name in ("p50", "p99", "busy")
        )
        table.add_row(f"{what} shadow and canary", *columns)
    Console().print(table)
    core = 1e6 / report["shadow_cpu_us"]
    Console().print(
        f"shadow: {report['shadow']:,} events/s beside idle scoring, {core:,.0f} a second of one "
        f"core; median ratio of p99 {report['ratio']:.2f}, floor {FLOOR}; behind after each round: "
        + ", ".join(f"{lag / report['rate']:.1f} s" for lag in report["behind"])
    )


def main() -> None:
    """Measure and print; see the module."""
    workarounds.apply()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--busy", type=float, default=0.5, help="of the machine's CPU, without a roll-out"
    )
    parser.add_argument("--rate", type=float, help="events/s, instead of a busy machine's")
    parser.add_argument("--rounds", type=int, default=5, help="each without and with a shadow")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load in each")
    parser.add_argument("--warm", type=float, default=12.0, help="seconds of load before all")
    parser.add_argument("--backlog", type=int, default=100_000, help="events, for the maximum")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with servers() as (_, settings), TemporaryDirectory() as folder:
        report = asyncio.run(compare(options, settings, Path(folder)))
    _print(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
