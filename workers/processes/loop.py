"""The loop as processes: servers where none are given, and every worker of a pipeline."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from streams.adapters.redis.server import greet
from streams.adapters.triton.control import TritonControls
from streams.aio.cancelling import cancel
from streams.kafka.connection import admin_client
from streams.preflight import check
from streams.settings import Settings
from workers.devstack.stack import Stack
from workers.devstack.state import read_stack
from workers.environment import (
    addresses,
    environment,
    find_pipeline,
    make_state_dir,
    with_addresses,
)
from workers.fetching import Notify
from workers.processes.metering import metered_servers
from workers.processes.sharing import in_use, only_loop, until_unused, using_stack
from workers.processes.supervisor import Command, Supervisor
from workers.resources.following import roles_of

T = TypeVar("T")


@dataclass(frozen=True)
class Loop:
    """A loop that is up."""

    settings: Settings
    """With every address filled in."""
    supervisor: Supervisor
    stack: Stack | None
    """The embedded stack, where this process runs it."""
    logs: Path
    """Where each worker writes `<name>.log`."""
    command: Callable[[str, int], Command]
    """Makes the command of worker N of a role."""
    following: Mapping[str, int] = field(default_factory=dict)
    """How many workers there were at first, by role, where their number follows the load."""

    @property
    def pids(self) -> dict[str, int]:
        """Every process of the loop by name."""
        servers = self.stack.pids() if self.stack else {}
        return {**servers, **self.supervisor.pids}


@asynccontextmanager
async def running_loop(
    settings: Settings,
    module: str,
    workers: int | None,
    report: Notify,
    environments: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[Loop]:
    """The whole loop, ended in order when the context is left.

    There are so many scoring workers; None: their number follows the load (`Policies.scale`).
    `environments` adds environment variables to processes by name: score-1, label, evaluate,
    shadow, trainer.

    Raises:
        ConfigurationError, Unavailable: in one line, before anything is left running.
    """
    pipeline = find_pipeline(module)
    make_state_dir(settings)
    with ExitStack() as held:
        logs = held.enter_context(only_loop(settings.state_dir, pipeline.name))
        found = None if all(addresses(settings).values()) else read_stack(settings)
        if found is not None:
            held.enter_context(using_stack(settings.state_dir))
            report(f"using the servers of process {found.pid}, which are in {settings.state_dir}")
            at = found.addresses
            settings = with_addresses(settings, at)
        await _check_given(settings)
        async with _own_stack(settings, report) as (stack, settings):
            await check(settings, pipeline, "score")
            scoring = workers or max(1, pipeline.policies.scale.min)
            numbers = {**dict.fromkeys(roles_of(pipeline), 1), "score": scoring}
            shared = _environment(settings, alone=workers is not None)

            def command(role: str, number: int) -> Command:
                name = worker_name(role, number)
                added = (environments or {}).get(name, {})
                return Command(name, [role, module], {**shared, **added})

            made = {**numbers, "trainer": 1}.items()
            commands = [command(role, i + 1) for role, n in made for i in range(n)]
            following = {} if workers else numbers
            async with (
                metered_servers(settings, pipeline, stack.pids if stack else dict),
                Supervisor(commands, logs, report) as supervisor,
            ):
                yield Loop(settings, supervisor, stack, logs, command, following)


async def _check_given(settings: Settings) -> None:
    """Reach the servers that are given, before others are started. Raises as `running_loop`."""
    if settings.kafka:
        async with admin_client(settings):
            pass
    if url := settings.redis.get_secret_value():
        await greet(url)
    if settings.triton:
        control = TritonControls(settings, "")
        try:
            await control.any_alive()
        finally:
            await control.close()


@asynccontextmanager
async def _own_stack(
    settings: Settings, report: Notify
) -> AsyncIterator[tuple[Stack | None, Settings]]:
    """The servers that the settings lack, and settings that lead to them."""
    if all(addresses(settings).values()):
        yield None, settings
        return
    stack = Stack(settings, report)
    at = await asyncio.to_thread(stack.start)
    try:
        yield stack, with_addresses(settings, at)
        if in_use(settings.state_dir):
            report("other loops use these servers: they end with the last, or on another Ctrl-C")
            await until_unused(settings.state_dir, stop_on_signals())
    finally:
        await asyncio.to_thread(stack.stop)


def worker_name(role: str, number: int) -> str:
    """What worker N of a role is called; of most roles there is one."""
    return role if number == 1 and role != "score" else f"{role}-{number}"


def _environment(settings: Settings, *, alone: bool) -> dict[str, str]:
    """What all workers are told; a labeller that is not `alone` shares its disk with others."""
    return {
        **environment(settings),
        **({} if alone else {"DRIFTLOOP_STANDBY": "false"}),
        "DRIFTLOOP_METRICS_PORT": "0",
        # for `watching`, which reads them
        "DRIFTLOOP_LOG_FORMAT": "json",
        "DRIFTLOOP_LOG_LEVEL": "DEBUG" if settings.log_level == "DEBUG" else "INFO",
    }


async def unless_stopped(work: Coroutine[Any, Any, T]) -> T | None:
    """What comes of it; None where SIGINT or SIGTERM ended it first."""
    stop, task = stop_on_signals(), asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        stopped.cancel()
        return task.result()
    await cancel(task)
    return None


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
