"""Whether the demo did what it promises: checks, a summary, and the report."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pandas as pd

from streams.ledger.state import state_after
from streams.settings import Settings
from streams.spec import Pipeline
from workers.demo.observer import Seen
from workers.demo.progress import Plan, Watched, table, world_start
from workers.demo.quality import quality
from workers.demo.report import Run, demo_report, quality_rows
from workers.terminal import out

MOST_MEMORY = 4_000_000_000
LEAST_VERSIONS = 4


def judge(
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
        start = world_start()
        found = quality(pipeline, world, start, seen, repository)
        summary += quality_rows(found)
        promotions = [(version, _first_day(world, seen, version)) for version in seen.promoted]
        story = progress.mistake.story(seen.ledger)
        run = Run(found, promotions, progress.rates, summary, story, start)
        demo_report(run).write(plan.report)
    out.print(table("Summary", summary))
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
