"""The loop as processes: servers where none are given, and every worker of a pipeline."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from streams.preflight import check_application
from streams.settings import Settings
from workers.devstack.cache import Notify
from workers.devstack.stack import Stack
from workers.devstack.state import running
from workers.environment import addresses, environment, find_pipeline, with_addresses
from workers.processes.supervisor import Command, Supervisor


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
    report: Notify,
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
        await check_application(settings, find_pipeline(module), triton=True)
        commands = _commands(module, settings, workers, environments or {})
        logs = settings.state_dir / "logs"
        async with Supervisor(commands, logs, report) as supervisor:
            yield Loop(settings, supervisor, stack)
    finally:
        if stack is not None:
            await asyncio.to_thread(stack.stop)


def _commands(
    module: str, settings: Settings, workers: int, environments: Mapping[str, Mapping[str, str]]
) -> list[Command]:
    roles = [
        *((f"score-{n}", "score") for n in range(1, workers + 1)),
        ("label", "label"),
        ("trainer", "trainer"),
    ]
    shared = {**environment(settings), "DRIFTLOOP_METRICS_PORT": "0"}
    return [
        Command(name, [role, module], {**shared, **environments.get(name, {})})
        for name, role in roles
    ]


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
