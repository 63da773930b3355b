"""`up`, `score`, `label`, `evaluate`, `shadow`, `trainer`: the loop, and each of its workers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

import typer

from streams.errors import PipelineError
from streams.metering.meter import Meter
from streams.settings import load_settings
from streams.spec import Pipeline
from streams.spec.fields import json_name
from streams.testing import sample_events
from workers.devstack.kafka_access import client_properties
from workers.environment import find_pipeline
from workers.processes.loop import Loop, running_loop, stop_on_signals
from workers.processes.watching import Watch
from workers.roles import Role, run_role
from workers.terminal import Module, StatusLine, console, note, out, plain


def score(module: Module) -> None:
    """Score events: one worker of the group that shares the partitions."""
    run_role(Role.SCORE, module)


def label(module: Module) -> None:
    """Join labels with what was served, and write examples: one worker of its group."""
    run_role(Role.LABEL, module)


def evaluate(module: Module) -> None:
    """Measure live quality from matured examples, by version: one worker of its group."""
    run_role(Role.EVALUATE, module)


def shadow(module: Module) -> None:
    """Have a challenger score what was served, for nobody but the roll-out: one of its group."""
    run_role(Role.SHADOW, module)


def trainer(module: Module) -> None:
    """Follow the retrain policy: make, judge and publish candidates until stopped."""
    run_role(Role.TRAINER, module)


def up(
    module: Module,
    workers: Annotated[
        str, typer.Option(help="Scoring workers to run; `auto`: as many as the load asks for.")
    ] = "1",
) -> None:
    """Run the whole loop: servers where none are given, and every worker."""
    number = _number(workers)
    asyncio.run(_run_up(module, find_pipeline(module), number))


def _number(workers: str) -> int | None:
    """How many workers were asked for; None for as many as the load asks for."""
    if workers == "auto":
        return None
    if not workers.isdecimal() or int(workers) < 1:
        raise typer.BadParameter(f"{workers!r} is neither a number above 0 nor `auto`")
    return int(workers)


async def _run_up(module: str, pipeline: Pipeline, workers: int | None) -> None:
    stop = stop_on_signals()
    async with running_loop(load_settings(), module, workers, note) as loop:
        _welcome(module, pipeline, loop)
        meter = Meter(loop.settings, pipeline, "up")
        meter.start()
        with StatusLine() as line:
            await _until(stop, Watch(loop, pipeline, note, line.show))
        await meter.close()
        console.print("stopping")
    console.print("stopped; data is kept in", str(loop.settings.state_dir))


async def _until(stop: asyncio.Event, watch: Watch) -> None:
    """Watch until told to stop; an error of the watch ends it, too."""
    watching, stopping = asyncio.create_task(watch.run()), asyncio.create_task(stop.wait())
    await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not watching.done():
        watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


def _welcome(module: str, pipeline: Pipeline, loop: Loop) -> None:
    topics, event, kafka = pipeline.topics, pipeline.event, loop.settings.kafka
    key = json_name(event.schema, event.key)
    sample, named = _sample(pipeline)
    fields = ", ".join(pipeline.event.schema.model_fields)
    out.print(
        f"""
[bold]{pipeline.name} is up[/]
  events in        {topics.events}   JSON ({fields}), keyed by {event.key}
  labels in        {topics.feedback}   {{"event_id", "label", "labelled_at"}}, with the event's key
  predictions out  {topics.predictions}
  bad records      {topics.dead_letters}
  Kafka            {kafka}{_for_other_clients(loop)}
  logs             {loop.logs}

Publish an event and its label (Python):
  import asyncio
  from streams.client import Client
  from workers.environment import connected_settings, find_pipeline
  async def main():
      event = {plain(sample)}
      async with Client(find_pipeline("{module}"), connected_settings()) as client:
          await client.send(event)  # or `predict`, which waits for the prediction
          await client.label({plain(named)}, event["{key}"], 1)
  asyncio.run(main())

See what comes out:
  driftloop tail {module} predictions

Ctrl-C ends it.""",
        soft_wrap=True,
        markup=True,
    )


def _sample(pipeline: Pipeline) -> tuple[str, str]:
    """An event as Python code, and how its id is read."""
    name = json_name(pipeline.event.schema, pipeline.event.id)
    try:
        [event] = sample_events(pipeline, 1)
    except PipelineError:  # its validators let none pass that is made without knowing them
        return "{...}", f'event["{name}"]'
    return repr(event), f'event["{name}"]'


def _for_other_clients(loop: Loop) -> str:
    """Where clients in other languages find how to get in."""
    file = client_properties(loop.settings.state_dir)
    return f", for other clients: {file}" if loop.settings.kafka_password and file.exists() else ""
