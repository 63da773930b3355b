"""Watches a loop that is up: tells what its logs say and its servers do, and shows its numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from streams.errors import DriftloopError, Unavailable
from streams.ledger.topic import read_entries
from streams.records import Action
from streams.spec import Pipeline
from workers.fetching import Notify
from workers.processes.loop import Loop
from workers.processes.notices import Notices, parsed
from workers.processes.probes import Probe, probes
from workers.processes.scaling import Scaling
from workers.processes.status import Status

_EVERY = 0.5
"""Seconds between two looks."""
_ASK_EVERY = 1.0
"""Seconds between two questions to a server."""
_SECONDS = 1.0
"""For a worker's metrics to answer."""
_HANGS = 3.0
"""A worker that has not answered for so many seconds more hangs."""
_DECIDED = {
    Action.PROMOTE: "promoted",
    Action.REJECT: "rejected",
    Action.INCONCLUSIVE: "inconclusive",
    Action.ROLLBACK: "rolled back to",
    Action.CANDIDATE: "waits to be rolled out:",
    Action.SHADOW: "in the shadow:",
    Action.CANARY: "canary:",
    Action.FREEZE: "frozen:",
    Action.THAW: "thawed:",
    Action.SETTLE: "holds as champion:",
}


class Watch:
    """Watches until it is cancelled."""

    def __init__(self, loop: Loop, pipeline: Pipeline, report: Notify, show: Notify) -> None:
        """`report` is given each notice once, `show` the status line whenever it is new."""
        self._loop = loop
        self._pipeline = pipeline
        self._report = report
        self._show = show
        self._notices = Notices()
        self._status = Status()
        self._warned = False
        self._metrics: dict[str, str] = {}
        """Where each worker serves its metrics."""
        self._silent: dict[str, float] = {}
        """Since when workers do not answer, by the event loop's clock."""

    async def run(self) -> None:
        """Work until cancelled."""
        with suppress(Unavailable):  # the decision before is nice to have
            await self._look_back()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_workers())
            for name, probe in probes(self._loop.settings, self._pipeline).items():
                tasks.create_task(self._follow_server(name, probe))
            if self._loop.following:
                scaling = Scaling(self._loop, self._pipeline, self._status, self._report)
                tasks.create_task(scaling.run())

    async def _follow_workers(self) -> None:
        while True:
            for worker, log in self._loop.supervisor.logs.items():
                for line in log.lines():
                    self._take(worker, parsed(line))
            await self._count()
            if not self._warned and (warning := self._status.warning()):
                self._warned = True
                self._report(warning)
            self._show(self._status.line())
            await asyncio.sleep(_EVERY)

    async def _follow_server(self, name: str, probe: Probe) -> None:
        while True:
            try:
                await probe.ask()
                up = True
            except DriftloopError:  # the workers say more, where it refuses us
                up = False
            if told := self._notices.server(name, probe.address, up=up):
                self._report(told)
            await asyncio.sleep(_ASK_EVERY)

    async def _look_back(self) -> None:
        entries = await read_entries(self._loop.settings, self._pipeline)
        if entries:
            self._decided(entries[-1].version, entries[-1].action)

    def _take(self, worker: str, line: Mapping[str, Any]) -> None:
        event = line.get("event")
        if event == "serving metrics":
            self._metrics[worker] = str(line.get("at"))
        elif event in ("candidate decided", "roll-out", "a version is taken back"):
            self._decided(line.get("version"), line.get("action"))
        elif event == "candidate is due":
            self._status.decision = "a candidate is in training"
        elif event in ("a retrain is put off", "a retrain is skipped"):
            self._status.decision = f"{event}, it costs too much"
        elif event == "no candidate":
            self._status.decision = "last decision: no candidate could be made"
        if told := self._notices.of(worker, line):
            self._report(told)

    def _decided(self, version: object, action: object) -> None:
        said = _DECIDED.get(Action(str(action)), str(action))
        self._status.decision = f"last decision: {said} version {version}"

    async def _count(self) -> None:
        """Read the metrics of the workers that run."""
        running = self._loop.supervisor.pids
        for gone in self._metrics.keys() - running.keys():
            self._status.ended(gone)
            del self._metrics[gone]
        at = dict(self._metrics)
        texts = await asyncio.gather(*(_in_time(fetch(url)) for url in at.values()))
        for worker, text in zip(at, texts, strict=True):
            if text:
                self._status.take(worker, text)
            self._hear(worker, running[worker], silent=text is None)

    def _hear(self, worker: str, pid: int, *, silent: bool) -> None:
        """Tell of a worker that takes connections and does not answer, and of its answering."""
        now = asyncio.get_running_loop().time()
        if not silent:
            self._silent.pop(worker, None)
        hangs = silent and now - self._silent.setdefault(worker, now) >= _HANGS
        if (hangs or not silent) and (told := self._notices.worker(worker, pid, hangs=hangs)):
            self._report(told)


async def fetch(url: str) -> str:
    """What a worker answers to a GET; it is on this machine. Raises `OSError`."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"GET {parts.path} HTTP/1.0\r\n\r\n".encode())
        return (await reader.read()).decode()
    finally:
        writer.close()


async def _in_time(call: Awaitable[str]) -> str | None:
    """What the call returns; empty where nobody is there, None where who is does not answer."""
    try:
        async with asyncio.timeout(_SECONDS):
            return await call
    except TimeoutError:
        return None
    except OSError:
        return ""
