"""`driftloop up`: servers where none are given, and every worker of a pipeline."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from streams.settings import Settings, load_settings
from streams.spec import Pipeline
from streams.wiring import check_servers
from workers.commands.common import (
    addresses,
    console,
    environment,
    find_pipeline,
    out,
    with_addresses,
)
from workers.devstack.stack import Stack, running
from workers.supervision import Command, Report, Supervisor


@dataclass(frozen=True)
class Loop:
    """A loop that is up."""

    settings: Settings
    """With every address filled in."""
    supervisor: Supervisor
    stack: Stack | None
    """The embedded stack, where this process runs it."""

    @property
    def pids(self) -> dict[str, int]:
        """Every process of the loop by name."""
        servers = self.stack.pids() if self.stack else {}
        return {**servers, **self.supervisor.pids}


@asynccontextmanager
async def running_loop(
    settings: Settings,
    module: str,
    workers: int,
    report: Report,
    environments: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[Loop]:
    """The whole loop, ended in order when the context is left.

    `environments` adds environment variables to processes by name: score-1, label, trainer.

    Raises:
        ConfigurationError, Unavailable: in one line, before anything is left running.
    """
    found = running(settings)
    if found is not None:
        settings = with_addresses(settings, found.kafka, found.triton, found.redis)
    stack = None if all(addresses(settings).values()) else Stack(settings, report)
    if stack is not None:
        started = await asyncio.to_thread(stack.start)
        settings = with_addresses(settings, started.kafka, started.triton, started.redis)
    try:
        await check_servers(settings, find_pipeline(module), triton=True)
        commands = _commands(module, settings, workers, environments or {})
        logs = settings.state_dir / "logs"
        async with Supervisor(commands, logs, report) as supervisor:
            yield Loop(settings, supervisor, stack)
    finally:
        if stack is not None:
            await asyncio.to_thread(stack.stop)


def _commands(module: str, settings: Settings, workers: int,
              environments: Mapping[str, Mapping[str, str]]) -> list[Command]:  # fmt: skip
    roles = [*((f"score-{n}", "score") for n in range(1, workers + 1)),
             ("label", "label"), ("trainer", "trainer")]  # fmt: skip
    shared = {**environment(settings), "DRIFTLOOP_METRICS_PORT": "0"}
    return [
        Command(name, [role, module], {**shared, **environments.get(name, {})})
        for name, role in roles
    ]


def run_up(module: str, pipeline: Pipeline, workers: int) -> None:
    """Run the loop until SIGINT or SIGTERM."""
    asyncio.run(_run_up(module, pipeline, workers))


async def _run_up(module: str, pipeline: Pipeline, workers: int) -> None:
    stop = stop_on_signals()
    async with running_loop(load_settings(), module, workers, _say) as loop:
        _welcome(module, pipeline, loop)
        await stop.wait()
        console.print("stopping")
    console.print("stopped; data is kept in", str(loop.settings.state_dir))


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _say(line: str) -> None:
    console.print(f"[dim]{line}[/]")


def _welcome(module: str, pipeline: Pipeline, loop: Loop) -> None:
    topics, event, kafka = pipeline.topics, pipeline.event, loop.settings.kafka
    fields = ", ".join(pipeline.event.schema.model_fields)
    out.print(f"""
[bold]{pipeline.name} is up[/]
  events in        {topics.events}   JSON ({fields}), keyed by {event.key}
  labels in        {topics.feedback}   {{"event_id", "label", "labelled_at"}}, with the event's key
  predictions out  {topics.predictions}
  bad records      {topics.dead_letters}
  Kafka            {kafka}
  logs             {loop.settings.state_dir / "logs"}

Publish an event (Python):
  import asyncio, json, aiokafka
  async def main():
      async with aiokafka.AIOKafkaProducer(bootstrap_servers="{kafka}") as producer:
          event = {{...}}
          await producer.send_and_wait("{topics.events}", json.dumps(event).encode(),
                                       key=event["{event.key}"].encode())
  asyncio.run(main())

See what comes out:
  DRIFTLOOP_KAFKA={kafka} driftloop tail {module} predictions

Ctrl-C ends it.""", soft_wrap=True, markup=True)  # fmt: skip
