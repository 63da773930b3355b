"""`driftloop produce`: the simulated world as a source of events and labels."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer
from rich.progress import Progress

from streams.errors import ConfigurationError
from streams.kafka import connection
from streams.kafka.topics import ensure_topics
from streams.kafka.writing import send_all
from streams.settings import Settings
from streams.spec import Pipeline
from workers.environment import connected_settings, find_pipeline
from workers.operations.files import TimedRecord
from workers.terminal import console, out


def produce(
    world: Annotated[str, typer.Argument(help="The world to simulate: card_fraud.")],
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 2000.0,
    first_day: Annotated[int, typer.Option(min=0, max=182, help="First day (0: 2018-04-01).")] = 0,
    days: Annotated[int, typer.Option(min=1, max=183, help="Days of event time.")] = 14,
    seed: Annotated[int, typer.Option(min=0, help="Another world; 0: the published one.")] = 0,
    labels: Annotated[bool, typer.Option(help="Publish frauds' labels, a week late.")] = True,
) -> None:
    """Publish a simulated world's events, and its labels as they become known."""
    if world != "card_fraud":
        raise ConfigurationError(f"no world named {world!r} - use card_fraud")
    pipeline = find_pipeline(world)
    settings = connected_settings(needs=("kafka",))
    console.print("simulating")
    records = _records(settings, pipeline, (first_day, first_day + days), seed, labels)
    count = asyncio.run(_publish(settings, pipeline, records, rate))
    out.print(f"published {count:,} records; next, `driftloop tail card_fraud predictions`")


def _records(
    settings: Settings, pipeline: Pipeline, days: tuple[int, int], seed: int, labels: bool
) -> list[TimedRecord]:
    """Events of these days and labels known in them, in the order in which they happen."""
    from workers.worlds.card_fraud import World, event_records, feedback_records, load

    frame = load(World(seed=seed), settings.cache_dir / "worlds")
    chosen = frame[(frame["day"] >= days[0]) & (frame["day"] < days[1])]
    if chosen.empty:
        raise ConfigurationError("no event in these days - the world has days 0 to 182")
    topics = pipeline.topics
    records: list[TimedRecord] = [
        TimedRecord(at, topics.events, key, value)
        for at, (key, value) in zip(chosen["seconds"], event_records(chosen), strict=True)
    ]
    if labels:
        frauds = chosen[chosen["is_fraud"] == 1]
        known = (frauds["seconds"] + 7 * 86_400).tolist()
        records += [
            TimedRecord(at, topics.feedback, key, value)
            for at, (key, value) in zip(known, feedback_records(frauds), strict=True)
            if at < days[1] * 86_400
        ]
    return sorted(records, key=lambda record: record[0])


async def _publish(
    settings: Settings, pipeline: Pipeline, records: list[TimedRecord], rate: float
) -> int:
    await ensure_topics(settings, pipeline)
    block = max(1, round(rate / 20))
    started = time.monotonic()
    with Progress(console=console) as progress:
        task = progress.add_task("publishing", total=len(records))
        async with connection.producer(settings, linger_ms=5) as producer:
            for start in range(0, len(records), block):
                await asyncio.sleep(max(0.0, started + start / rate - time.monotonic()))
                chosen = records[start : start + block]
                await send_all(producer, ((topic, key, value) for _, topic, key, value in chosen))
                progress.advance(task, len(chosen))
    return len(records)
