"""Child processes of ours: started, watched, restarted with back-off, ended with their parent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streams.errors import Halted
from workers.devstack.cache import Notify
from workers.devstack.servers import ended
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
        self._stopping = asyncio.Event()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.restarts = 0
        self.logs: dict[str, LogReader] = {}
        """What each worker writes, by name."""

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs now, by name."""
        return {n: p.pid for n, p in self._processes.items() if p.returncode is None}

    async def __aenter__(self) -> Supervisor:
        self._logs.mkdir(parents=True, exist_ok=True)
        self.logs = {c.name: LogReader(self._log(c)) for c in self._commands}
        self._tasks = [asyncio.create_task(self._keep(c), name=c.name) for c in self._commands]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        for process in self._processes.values():
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*self._tasks)

    async def _keep(self, command: Command) -> None:
        delay, before = 0.5, ""
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            said = LogReader(self._log(command))
            process = await self._start(command)
            code = await self._wait(process)
            if self._stopping.is_set():
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
            await self._pause(delay)
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

    async def _wait(self, process: asyncio.subprocess.Process) -> int:
        """The exit code; a process that does not end when told to is killed."""
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ended.done():
            if process.returncode is None:
                process.terminate()
            _, late = await asyncio.wait({ended}, timeout=_STOP_SECONDS)
            if late:
                process.kill()
        return await ended

    async def _pause(self, delay: float) -> None:
        await asyncio.wait([asyncio.create_task(self._stopping.wait())], timeout=delay)

    def _log(self, command: Command) -> Path:
        return self._logs / f"{command.name}.log"
