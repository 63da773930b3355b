"""A replay from start to end: servers, workers, a world's records, figures."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from pydantic import SecretStr

from streams.errors import ConfigurationError
from streams.kafka import connection
from streams.kafka.offsets import offsets_client
from streams.kafka.reading import read_topic
from streams.records import Action, Example
from streams.settings import Settings, load_settings
from streams.spec import Pipeline
from streams.spec.times import readable
from workers.devstack.state import running
from workers.environment import find_pipeline
from workers.examples.reading import columns
from workers.operations.files import TimedRecord
from workers.operations.worlds import world_records
from workers.processes.loop import Loop, running_loop, unless_stopped
from workers.releases.repository import Repository
from workers.replays.feeding import Sent, feed
from workers.replays.figures import Outcome, outcome
from workers.replays.pacing import pacing
from workers.terminal import StatusLine, note
from workers.worlds.catalogue import find_world


@dataclass(frozen=True)
class ReplayPlan:
    """What to replay."""

    module: str
    """That declares the pipeline."""
    world: str
    """The name of the pipeline where empty."""
    limit: int | None = None
    """Of the world's events."""
    since: float = 0.4
    """Share of the events with a label from which on it is judged."""


def own_settings(name: str) -> Settings:
    """Servers, data and models of a demo's own, from an empty directory.

    Raises:
        ConfigurationError: it runs already.
    """
    settings = load_settings()
    home = settings.state_dir / "demo" / name if name else settings.state_dir / "demo"
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


def replay(plan: ReplayPlan) -> Outcome | None:
    """Run it; None where it was cut short by a signal.

    Raises:
        ConfigurationError, Unavailable: in one line; the demo runs already, say.
        NothingServed: no version has come to serve.
    """
    settings = own_settings(find_pipeline(plan.module).name)
    return asyncio.run(unless_stopped(stream(plan, settings)))


async def stream(plan: ReplayPlan, settings: Settings) -> Outcome:
    """Run it on the servers that the settings name, and on servers of its own in place of others.

    Raises as `replay`.
    """
    pipeline = find_pipeline(plan.module)
    world = find_world(plan.world or pipeline.name.replace("-", "_"))
    made = world_records(pipeline, world, settings.cache_dir, note, plan.limit)
    note(f"{world.name}: {world.schema}; times: {world.times}; licence: {world.licence}")
    note("starting the workers, and what servers they need")
    async with running_loop(settings, plan.module, 1, note) as loop:
        return await _feed(plan, pipeline, loop, made)


async def _feed(
    plan: ReplayPlan, pipeline: Pipeline, loop: Loop, records: Iterable[TimedRecord]
) -> Outcome:
    settings, begun = loop.settings, time.monotonic()
    async with (
        offsets_client(settings) as offsets,
        connection.producer(settings, linger_ms=5) as producer,
        pacing(settings, pipeline, offsets, note) as pace,
    ):
        with StatusLine() as line:

            def show(sent: Sent) -> None:
                line.show(
                    f"{readable(sent.at)}: {sent.events:,} events, {sent.labels:,} labels, "
                    f"version {pace.state.champion} of {len(pace.state.versions)} serves, "
                    f"{time.monotonic() - begun:.0f} s"
                )

            sent = await feed(pipeline, producer, records, pace, show)
        ledger = pace.ledger
    found = await read_topic(settings, pipeline.topics.examples)
    examples = columns(
        [msgspec.json.decode(one.value, type=Example) for one in found if one.value], pipeline
    )
    champions = [one for one in ledger if one.action is Action.PROMOTE]
    promoted = [one.manifest for one in champions if one.manifest]
    repository = Repository(settings.model_repository, pipeline.name)
    return outcome(pipeline, repository, promoted, examples, sent.events, plan.since)
