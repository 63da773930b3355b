"""Child processes of ours: started, watched, restarted with back-off, ended with their parent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from streams.errors import Halted
from workers.devstack.servers import ended
from workers.fetching import Notify
from workers.processes.log_files import LogReader
from workers.processes.notices import last_words

PARENT = "DRIFTLOOP_PARENT_PID"
_PR_SET_PDEATHSIG = 1
_NUMBERS = re.compile(r"\d+")
_STABLE_SECONDS = 30.0
_STOP_SECONDS = 10.0


def end_with_parent() -> None:
    """In a child: be sent SIGTERM by the kernel when the supervising parent dies, however it does.

    Does nothing in a process that was not started by `Supervisor`.
    """
    parent = os.environ.pop(PARENT, "")
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before we asked
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True)
class Command:
    """A worker to run as a process: arguments of `python -m workers.roles`."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]


class Supervisor:
    """Keeps commands running until told to stop. Each writes to `<logs>/<name>.log`."""

    def __init__(self, commands: Sequence[Command], logs: Path, report: Notify) -> None:
        self._commands = commands
        self._logs = logs
        self._report = report
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._kept: dict[str, _Kept] = {}
        self.restarts = 0
        self.logs: dict[str, LogReader] = {}
        """What each worker writes, by name."""

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs now, by name."""
        return {n: p.pid for n, p in self._processes.items() if p.returncode is None}

    async def __aenter__(self) -> Supervisor:
        self._logs.mkdir(parents=True, exist_ok=True)
        for command in self._commands:
            self.add(command)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(self.remove(name) for name in list(self._kept)))

    def add(self, command: Command) -> None:
        """Keep one more running; of its name there is none."""
        self.logs[command.name] = LogReader(self._log(command))
        stopping = asyncio.Event()
        task = asyncio.create_task(self._keep(command, stopping), name=command.name)
        self._kept[command.name] = _Kept(stopping, task)

    async def remove(self, name: str) -> None:
        """Have one finish what it has in hand, and end; returns when it has."""
        kept = self._kept[name]
        kept.stopping.set()
        await kept.task
        del self._kept[name]

    async def _keep(self, command: Command, stopping: asyncio.Event) -> None:
        delay, before = 0.5, ""
        while not stopping.is_set():
            started = asyncio.get_running_loop().time()
            said = LogReader(self._log(command))
            process = await self._start(command)
            code = await _wait(process, stopping)
            if stopping.is_set():
                return
            why = last_words(said.lines())
            if code == Halted.EXIT_CODE:
                self._report(f"{command.name} has stopped and is not restarted: {why}")
                return
            if asyncio.get_running_loop().time() - started > _STABLE_SECONDS:
                delay, before = 0.5, ""
            self.restarts += 1
            told = f"{command.name} ended ({ended(code)})"
            if code != -signal.SIGKILL:  # who is killed has no time to say why
                told += f": {why}"
            cause = _NUMBERS.sub("", told)
            if cause != before:  # said once, while it does not last
                self._report(f"{told} - restarting until it lasts; log: {self._log(command)}")
            before = cause
            await _pause(delay, stopping)
            delay = min(delay * 2, 10.0)

    async def _start(self, command: Command) -> asyncio.subprocess.Process:
        with self._log(command).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "workers.roles",
                *command.arguments,
                env={**os.environ, **command.environment, PARENT: str(os.getpid())},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to the parent, which ends the children in order
                start_new_session=True,
            )
        self._processes[command.name] = process
        return process

    def _log(self, command: Command) -> Path:
        return self._logs / f"{command.name}.log"


class _Kept(NamedTuple):
    stopping: asyncio.Event
    task: asyncio.Task[None]


async def _wait(process: asyncio.subprocess.Process, stopping: asyncio.Event) -> int:
    """The exit code; a process that does not end when told to is killed."""
    ended, told = asyncio.create_task(process.wait()), asyncio.create_task(stopping.wait())
    await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not ended.done():
        if process.returncode is None:
            process.terminate()
        _, late = await asyncio.wait({ended}, timeout=_STOP_SECONDS)
        if late:
            process.kill()
    return await ended


async def _pause(delay: float, stopping: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(delay):
            await stopping.wait()
