"""`diff`: what a change of a pipeline's file will do, before it is deployed."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from streams.adapters.redis.state import RedisFeatureState
from streams.kafka.reading import following
from streams.kafka.topic_ids import topic_ids
from streams.kafka.topics import keeping_too_little, topic_exists
from streams.ledger.state import LedgerState
from streams.ledger.topic import read_state
from streams.settings import Settings
from streams.spec import Pipeline
from streams.versions import learned
from workers.environment import connected_settings, find_pipeline
from workers.releases.changing import Change
from workers.releases.publisher import Publisher
from workers.terminal import Module, out, plain

_FALLS_BACK = 1
"""Exit code where events would be served the fallback."""
_FOLDED_A_SECOND = 10_000
"""Events that a worker folds again in a second; measured: docs/benchmarks.md."""


@dataclass(frozen=True)
class Surroundings:
    """What the servers have of the file's pipeline."""

    state: str
    """Of the feature state: `none needed`, `there`, or `rebuilt`."""
    retained: int
    """Events that are there to rebuild it from."""
    model: str
    """Triton's model that a new version goes to."""
    new_model: bool
    keeps_too_little: list[str]
    """A line for each topic that keeps its records for too short."""

    def lines(self, pipeline: Pipeline) -> list[str]:
        """What becomes of them, for people."""
        found = [
            f"a new version is of Triton's model {self.model}"
            + (", which is made for it beside the others" if self.new_model else "")
        ]
        if self.state == "rebuilt":
            seconds = self.retained / _FOLDED_A_SECOND
            found.append(
                f"windows are filled from {self.retained:,} events that are there, before the "
                f"first event is scored: about {max(1, round(seconds)):,} s by one worker"
            )
            if others := [key.key for key in pipeline.plan.keys[1:]]:
                found.append(
                    f"restart all scoring workers at once: windows of {', '.join(others)} lack "
                    "what workers of the old file count meanwhile"
                )
            if pipeline.plan.label_keys:
                found.append("restart the labellers first: label windows are filled by them")
        return [*found, *self.keeps_too_little]


def diff(
    module: Module,
    as_json: Annotated[bool, typer.Option("--json", help="The same as a JSON object.")] = False,
) -> None:
    """Say what a change of MODULE will do to what serves now. Exit code 1: it would fall back."""
    pipeline, settings = find_pipeline(module), connected_settings(module)
    now, servers = asyncio.run(_read(settings, pipeline))
    change = Change.of(pipeline, now)
    if as_json:
        said = asdict(change) | asdict(servers) | {"falls_back": change.falls_back}
        out.print_json(json.dumps(said), indent=None)
    else:
        for line in (*change.lines(pipeline), *servers.lines(pipeline)):
            out.print(plain(line), soft_wrap=True)
    if change.falls_back:
        raise typer.Exit(_FALLS_BACK)


async def _read(settings: Settings, pipeline: Pipeline) -> tuple[LedgerState, Surroundings]:
    if not await topic_exists(settings, pipeline.topics.models):
        return LedgerState(), Surroundings("none needed", 0, pipeline.name, False, [])
    now = await read_state(settings, pipeline)
    state, retained = await _state(settings, pipeline)
    publisher = Publisher(settings, pipeline)
    try:
        model = publisher.loading.model_of_layout(learned(pipeline).layout)
        known = publisher.repository.configs()
    finally:
        await publisher.close()
    too_little = await keeping_too_little(settings, pipeline)
    return now, Surroundings(state, retained, model, model not in known, too_little)


async def _state(settings: Settings, pipeline: Pipeline) -> tuple[str, int]:
    """What there is of the feature state, and how many events it would be rebuilt from."""
    if not any(plan.kept for plan in pipeline.plan.keys):
        return "none needed", 0
    events = pipeline.topics.events
    ids = await topic_ids(settings, [events])
    found = await RedisFeatureState.of(settings, pipeline, ids.get(events, ""))
    try:
        if await found.whole():
            return "there", 0
    finally:
        await found.close()
    async with following(settings, events) as follower:
        starts, ends = await follower.starts(), await follower.ends(events)
    return "rebuilt", sum(end - starts.get(number, 0) for number, end in ends.items())
