"""The demo from start to end: stream, watch, judge, report."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta

import pandas as pd
from rich.live import Live

from streams.kafka import connection
from streams.kafka.offsets import offsets_client
from streams.settings import Settings
from streams.spec import Pipeline
from workers.demo.judging import judge
from workers.demo.measures import failed_requests
from workers.demo.mistake import Mistake
from workers.demo.observer import Observer, Seen
from workers.demo.progress import Plan, Watched, table, world_start
from workers.demo.source import DAY, SLOTS_PER_DAY, Feeder, Source
from workers.devstack.servers import free_port
from workers.environment import find_pipeline
from workers.processes.loop import Loop, running_loop, unless_stopped
from workers.replays.run import own_settings
from workers.terminal import console, note
from workers.worlds.card_fraud import World, load

MODULE = "workers.demo.pipeline"
MISTAKE_AT = 0.6
"""Share of the days after which a bad version is let in past the gate."""
_DRAIN_SECONDS = 60.0
_RATE_SAMPLES = 20
"""Half-second samples that a rate is taken over: slots come about one a second."""


def run_demo(plan: Plan) -> bool:
    """Run the demo; True when every check of its summary holds."""
    settings = own_settings("")
    console.print("simulating the world")
    world = load(World(), settings.cache_dir / "worlds")
    world = world[world["day"] < plan.days]
    return bool(asyncio.run(unless_stopped(_stream_and_judge(plan, settings, world))))


async def _stream_and_judge(plan: Plan, settings: Settings, world: pd.DataFrame) -> bool:
    pipeline, metrics_port = find_pipeline(MODULE), free_port()
    ports = {"score-1": {"DRIFTLOOP_METRICS_PORT": str(metrics_port)}}
    console.print("starting Kafka, Triton, Valkey and the workers")
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        note(line)

    async with running_loop(settings, MODULE, 1, report, ports) as loop:
        progress = await _stream(plan, pipeline, loop, world, lines)
        progress.failed = failed_requests(metrics_port)
        restarts = loop.supervisor.restarts
    return judge(plan, settings, pipeline, world, progress, restarts)


async def _stream(
    plan: Plan, pipeline: Pipeline, loop: Loop, world: pd.DataFrame, lines: list[str]
) -> Watched:
    """Publish the world while watching what comes out, until all of it has come out."""
    topics, settings = pipeline.topics, loop.settings
    seen = Seen.of(len(world), len(pipeline.feature_names))
    producer = connection.producer(settings, linger_ms=5)
    async with offsets_client(settings) as offsets, producer, asyncio.TaskGroup() as tasks:
        publisher = Feeder(
            producer, offsets, pipeline, plan.seconds_per_slot, _keeps_up(pipeline, seen)
        )
        progress = Watched(publisher, seen, Mistake(settings, pipeline), notes=lines)
        observing = tasks.create_task(Observer(settings, topics, seen).run())
        watching = tasks.create_task(_watch(plan, progress, loop))
        due = plan.days * SLOTS_PER_DAY * MISTAKE_AT
        erring = tasks.create_task(
            progress.mistake.run(lambda: seen.ledger, lambda: publisher.slot >= due)
        )
        await publisher.run(Source(world))
        deadline = time.monotonic() + _DRAIN_SECONDS
        while seen.predicted < len(world) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)  # what should not come would come now
        for task in (observing, watching, erring):
            task.cancel()
    return progress


def _keeps_up(pipeline: Pipeline, seen: Seen) -> Callable[[float], bool]:
    """Whether the trainer has decided on every candidate except perhaps the current one."""
    every = pipeline.policies.retrain.every_seconds / DAY
    mature = pipeline.feedback.horizon_seconds / DAY
    start = world_start()

    def keeps_up(day: float) -> bool:
        marks = [entry.manifest.label_watermark for entry in seen.ledger if entry.manifest]
        # the very first step has too few labels for a candidate
        decided = (max(marks) - start) / DAY if marks else every
        return day <= decided + mature + 2 * every

    return keeps_up


async def _watch(plan: Plan, progress: Watched, loop: Loop) -> None:
    """Sample memory and pace, and show the live table, or lines where there is no terminal."""
    said = 0.0
    counts: deque[tuple[float, int]] = deque(maxlen=_RATE_SAMPLES)
    live = Live(console=console, auto_refresh=False, transient=True)
    with live if console.is_terminal else contextlib.nullcontext():
        while True:
            await asyncio.sleep(0.5)
            progress.memory.sample({**loop.pids, "demo": os.getpid()})
            now = time.monotonic()
            counts.append((now, progress.seen.predicted))
            (since, before), (_, count) = counts[0], counts[-1]
            rate = (count - before) / max(now - since, 0.5)
            progress.rates.append((now - progress.started, rate))
            rows = list(_live_rows(plan, progress, rate))
            if console.is_terminal:
                live.update(table("Driftloop demo", rows), refresh=True)
            elif now - said > 15:
                console.print("; ".join(f"{name} {value}" for name, value in rows))
                said = now


def _live_rows(plan: Plan, progress: Watched, rate: float) -> Iterator[tuple[str, str]]:
    publisher, seen = progress.publisher, progress.seen
    day = publisher.slot / SLOTS_PER_DAY
    at = World().start + timedelta(days=day)
    yield "stage", "streaming" if publisher.slot < plan.days * SLOTS_PER_DAY else "finishing"
    yield "event date", f"{at:%Y-%m-%d} (day {day:.0f} of {plan.days})"
    yield "events in", f"{publisher.published.events:,}, labels {publisher.published.labels:,}"
    yield "predictions", f"{seen.predicted:,} ({rate:,.0f}/s)"
    yield "serving", f"version {seen.champion}" if seen.champion else "the fallback"
    last = seen.ledger[-1] if seen.ledger else None
    yield "last candidate", f"{last.version}: {last.action}, {last.reason}" if last else "none yet"
    yield "dead letters", f"{sum(seen.dead_letters.values()):,}"
    yield "memory", f"{sum(progress.memory.peaks.values()) / 1e6:,.0f} MB"
    yield "elapsed", f"{time.monotonic() - progress.started:.0f} s"
