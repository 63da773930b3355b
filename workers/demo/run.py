"""The demo from start to end: stream, watch, judge, report."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from pydantic import SecretStr
from rich.live import Live
from rich.table import Table

from streams.errors import ConfigurationError
from streams.kafka import connection
from streams.kafka.offsets import offsets_client
from streams.ledger.state import state_after
from streams.settings import Settings, load_settings
from streams.spec import Pipeline
from workers.demo.measures import Memory, failed_requests
from workers.demo.mistake import Mistake
from workers.demo.observer import Observer, Seen
from workers.demo.quality import quality
from workers.demo.report import Run, demo_report, quality_rows
from workers.demo.source import DAY, SLOTS_PER_DAY, Feeder, Source
from workers.devstack.servers import free_port
from workers.devstack.state import running
from workers.environment import find_pipeline
from workers.processes.loop import Loop, running_loop, stop_on_signals
from workers.terminal import console, note, out
from workers.worlds.card_fraud import World, load

MODULE = "workers.demo.pipeline"
MOST_MEMORY = 4_000_000_000
LEAST_VERSIONS = 4
MISTAKE_AT = 0.6
"""Share of the days after which a bad version is let in past the gate."""
_DRAIN_SECONDS = 60.0
_RATE_SAMPLES = 20
"""Half-second samples that a rate is taken over: slots come about one a second."""


@dataclass(frozen=True)
class Plan:
    """What to stream, and how fast."""

    days: int
    minutes: float
    report: Path

    @property
    def seconds_per_slot(self) -> float:
        """Wall-clock seconds for a quarter of a day of events."""
        return self.minutes * 60 / (self.days * SLOTS_PER_DAY)


@dataclass
class Watched:
    """What is shown while it runs, and kept for the report."""

    publisher: Feeder
    seen: Seen
    mistake: Mistake
    memory: Memory = field(default_factory=Memory)
    rates: list[tuple[float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    failed: int = 0
    """Inference requests that failed."""


def run_demo(plan: Plan) -> bool:
    """Run the demo; True when every check of its summary holds."""
    return asyncio.run(_run(plan))


async def _run(plan: Plan) -> bool:
    stop = stop_on_signals()
    settings = _settings()
    console.print("simulating the world")
    world = load(World(), settings.cache_dir / "worlds")
    world = world[world["day"] < plan.days]
    demo = asyncio.create_task(_stream_and_judge(plan, settings, world))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({demo, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not demo.done():
        console.print("stopping")
        demo.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await demo
        return False
    stopped.cancel()
    return demo.result()


def _settings() -> Settings:
    """Servers, data and models of the demo's own, from an empty directory."""
    settings = load_settings()
    home = settings.state_dir / "demo"
    fresh = settings.model_copy(
        update={
            "state_dir": home,
            "model_repository": home / "models",
            "kafka": "",
            "triton": "",
            "redis": SecretStr(""),
        }
    )
    if running(fresh) is not None:
        raise ConfigurationError(f"a demo is already running in {home} - wait for it, or end it")
    shutil.rmtree(home, ignore_errors=True)
    return fresh


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
    return _judge(plan, settings, pipeline, world, progress, restarts)


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
    start = _start()

    def keeps_up(day: float) -> bool:
        marks = [entry.manifest.label_watermark for entry in seen.ledger if entry.manifest]
        # the very first step has too few labels for a candidate
        decided = (max(marks) - start) / DAY if marks else every
        return day <= decided + mature + 2 * every

    return keeps_up


def _start() -> float:
    """The world's day 0, seconds since 1970."""
    return datetime.combine(World().start, datetime.min.time(), UTC).timestamp()


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
                live.update(_table("Driftloop demo", rows), refresh=True)
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


def _judge(
    plan: Plan,
    settings: Settings,
    pipeline: Pipeline,
    world: pd.DataFrame,
    progress: Watched,
    restarts: int,
) -> bool:
    """Print the summary and write the report; True when every check holds."""
    seen, sent = progress.seen, progress.publisher.published
    checks = [
        ("predictions = distinct valid events", seen.predicted == sent.events == len(world)),
        ("each exactly once", seen.doubled == 0 and seen.unknown == 0),
        ("a dead letter for each broken record", seen.dead_letters.total() == sent.malformed),
        (f"at least {LEAST_VERSIONS} versions published", len(seen.promoted) >= LEAST_VERSIONS),
        ("no failed request", progress.failed == 0),
        ("no process restarted", restarts == 0),
        ("the last events were served by the last version", _serves_last(seen)),
        ("a bad version was thrown out and served nobody", _served_nobody(progress)),
        ("all processes together below 4 GB", progress.memory.total < MOST_MEMORY),
    ]
    summary = list(_summary(progress, restarts))
    if seen.promoted:
        repository = settings.model_repository / pipeline.name
        start = _start()
        found = quality(pipeline, world, start, seen, repository)
        summary += quality_rows(found)
        promotions = [(version, _first_day(world, seen, version)) for version in seen.promoted]
        story = progress.mistake.story(seen.ledger)
        run = Run(found, promotions, progress.rates, summary, story, start)
        demo_report(run).write(plan.report)
    out.print(_table("Summary", summary))
    for name, holds in checks:
        out.print(f"  {'[green]ok[/]  ' if holds else '[red]FAIL[/]'} {name}")
    if seen.promoted:
        out.print(f"curves: {plan.report}")
    return all(holds for _, holds in checks)


def _summary(progress: Watched, restarts: int) -> Iterator[tuple[str, str]]:
    seen, sent = progress.seen, progress.publisher.published
    yield (
        "events in",
        (
            f"{sent.events:,} distinct and valid, {sent.duplicates:,} repeated, "
            f"{sent.malformed:,} broken"
        ),
    )
    yield "labels in", f"{sent.labels:,} confirmed frauds, a week of event time late"
    yield "predictions out", f"{seen.predicted:,} events, {seen.doubled:,} of them twice"
    yield "dead letters", ", ".join(f"{n:,} {c}" for c, n in seen.dead_letters.items()) or "none"
    yield "versions published", ", ".join(map(str, seen.promoted)) or "none"
    for entry in seen.ledger:
        yield f"  version {entry.version}", f"{entry.action}: {entry.reason}"
    yield "failed requests", str(progress.failed)
    yield "process restarts", str(restarts)
    for name, used in progress.memory.peaks.items():
        yield f"  peak memory, {name}", f"{used / 1e6:,.0f} MB"
    yield "peak memory, together", f"{progress.memory.total / 1e6:,.0f} MB"
    yield "took", f"{time.monotonic() - progress.started:.0f} s"


def _serves_last(seen: Seen) -> bool:
    served, now = seen.versions[seen.times > 0], state_after(seen.ledger)
    serving = {now.champion, now.challenger if now.share else 0} - {0}
    return bool(len(served)) and int(served[-1]) in serving


def _served_nobody(progress: Watched) -> bool:
    bad, seen = progress.mistake, progress.seen
    return bad.thrown_out(seen.ledger) and not (seen.versions == bad.version).any()


def _first_day(world: pd.DataFrame, seen: Seen, version: int) -> int:
    rows = (seen.versions == version).nonzero()[0]
    return int(world["day"].iloc[rows[0]]) if len(rows) else int(world["day"].iloc[-1])


def _table(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table
