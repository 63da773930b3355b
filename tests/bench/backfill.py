"""History through `backfill`, beside the same history through workers.

    python -m tests.bench.backfill                   # the Handbook's world, 1.75 M events
    python -m tests.bench.backfill --days 30 --stream

Frauds have labels, known a week later; with `--every-label` all payments do. The files are written
first; timed is all the rest: reading, features, what was served, the join, examples, and that the
brokers have it. With `--stream` a scoring worker works off as many events of another pipeline: that
work without files, labels and examples.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pandas as pd
import psutil
from rich.console import Console

from streams.backfill.history import Made, backfill, written_at
from streams.kafka import workarounds
from streams.settings import Settings
from streams.spec import Pipeline
from tests.bench.growth import drained
from tests.bench.reporting import cpu_model
from tests.bench.servers import servers
from tests.faults.harness import card_fraud_module
from workers.devstack.stack import Stack
from workers.operations.files import InOrder, records
from workers.worlds.card_fraud import World
from workers.worlds.card_fraud.cache import load
from workers.worlds.card_fraud.records import events, feedback

out = Console(stderr=True)


def write_files(frame: pd.DataFrame, folder: Path, every: bool) -> tuple[Path, Path]:
    """Events and labels of a world, one JSON object a line."""
    paths = folder / "events.ndjson", folder / "labels.ndjson"
    with paths[0].open("wb") as file:
        file.writelines(orjson.dumps(one) + b"\n" for one in events(frame))
    told = frame if every else frame[frame["is_fraud"] == 1]
    customers = map(str, told["customer_id"].tolist())
    with paths[1].open("wb") as file:
        for one, customer in zip(feedback(frame, positives_only=not every), customers, strict=True):
            file.write(orjson.dumps({**one, "customer_id": customer}) + b"\n")
    return paths


def cpu(stack: Stack) -> dict[str, float]:
    """Seconds of CPU that each server has taken."""
    found = {}
    for name, pid in stack.pids().items():
        times = psutil.Process(pid).cpu_times()
        found[name] = times.user + times.system
    return found


async def filled(settings: Settings, pipeline: Pipeline, paths: tuple[Path, Path]) -> Made:
    """The backfill of two files."""
    await written_at(settings, pipeline)
    began, done = time.monotonic(), 0

    def progress(count: int) -> None:
        nonlocal done
        if (done + count) // 100_000 > done // 100_000:
            out.print(
                f"{done + count:,} records, {(done + count) / (time.monotonic() - began):,.0f}/s"
            )
        done += count

    return await backfill(settings, pipeline, InOrder(records(pipeline, *paths)), progress)


def main() -> None:
    """Measure and print; see the module."""
    workarounds.apply()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=183, help="Of the Handbook's world.")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--every-label", action="store_true", help="Not those of frauds alone.")
    parser.add_argument("--stream", action="store_true", help="Measure a scoring worker as well.")
    options = parser.parse_args()
    frame = load(World(days=options.days))
    with TemporaryDirectory() as name, servers(options.partitions, out.print) as (stack, settings):
        folder = Path(name)
        paths = write_files(frame, folder, options.every_label)
        pipeline = card_fraud_module(folder, "filled")
        before, own = cpu(stack), time.process_time()
        made = asyncio.run(filled(settings, pipeline, paths))
        own = time.process_time() - own
        spent = {name: seconds - before[name] for name, seconds in cpu(stack).items()}
        print(f"machine: {cpu_model()}")
        count, used = made.of(pipeline.topics.events), resource.getrusage(resource.RUSAGE_SELF)
        print(
            f"backfill: {count:,} events, {made.of(pipeline.topics.examples):,} examples in "
            f"{made.seconds:.1f} s: {count / made.seconds:,.0f} events/s, "
            f"{used.ru_maxrss / 1024:,.0f} MB at most"
        )
        costs = {"backfill": own, **spent}
        said = ", ".join(f"{name} {1e6 * cost / count:.1f}" for name, cost in costs.items())
        print(f"CPU, µs an event: {said}")
        if options.stream:
            span = asyncio.run(drained(settings, stack, folder, 1, min(count, 400_000)))
            print(f"scoring alone, one worker: {span.rate:,.0f} events/s")


if __name__ == "__main__":
    main()
