"""A shadow worker that is killed, and one that kills itself around a commit."""

from __future__ import annotations

import asyncio
from pathlib import Path

from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from tests.faults.harness import Output, Workers, card_fraud_module, trickle
from tests.faults.schedule import Kind
from tests.models import challenge, linear, publish_rivals
from tests.shadowing import compared, examples, served
from tests.waiting import until

EVENTS = 12_000


async def test_killed_at_any_point_it_loses_and_doubles_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    quick = settings.model_copy(update={"session_timeout_ms": 6000, "batch_records": 128})
    pipeline = card_fraud_module(tmp_path / "work", "killed-shadow")
    topics, width = pipeline.topics, len(pipeline.feature_names)
    await ensure_topics(quick, pipeline)
    second = await publish_rivals(quick, pipeline, linear(width), linear(width, 0.5))
    await challenge(quick, pipeline, second)
    events, labelled = served(pipeline, EVENTS), examples(pipeline, EVENTS)
    with Workers(quick, pipeline, tmp_path / "work") as workers:
        async with Output(quick, topics.shadow) as out:
            streams = asyncio.gather(
                trickle(quick, topics.scored, events, 400),
                trickle(quick, topics.examples, labelled, 400),
            )
            first = workers.start("shadow")
            await out.wait(1000)
            first.kill()
            for point in (Kind.after_inference, Kind.before_commit, Kind.commit_sent):
                program = ("tests.faults.crash_points", point, "3", "shadow")
                dying = workers.start("shadow", program)
                await until(lambda: dying.code is not None, f"killed {point}", said=dying.said)  # noqa: B023
            last = workers.start("shadow")
            await streams
            await out.wait(2 * EVENTS)
            await out.settle()
            assert last.alive, last.said()
    found = [(one.event_id, one.label is not None) for one in compared(out.records)]
    assert len(found) == len(set(found)) == 2 * EVENTS
    assert {one.challenger for one in compared(out.records)} == {2}
