"""What the servers use that a loop runs, into `P.costs` of its pipeline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import psutil

from streams.aio.cancelling import cancel
from streams.metering.account import Account
from streams.metering.meter import EVERY, WRITE_EVERY, Books
from streams.metering.reading import account, tree_reading
from streams.settings import Settings
from streams.spec import Pipeline

Pids = Callable[[], Mapping[str, int]]
"""Process ids of the servers that run, by name."""


@asynccontextmanager
async def metered_servers(
    settings: Settings, pipeline: Pipeline, pids: Pids
) -> AsyncIterator[None]:
    """Meters servers while the block runs; a server that was restarted is another process."""
    meter = _ServerMeter(settings, pipeline, pids)
    task = asyncio.create_task(meter.follow(), name="meter")
    try:
        yield
    finally:
        await cancel(task)
        await meter.close()


class _ServerMeter:
    def __init__(self, settings: Settings, pipeline: Pipeline, pids: Pids) -> None:
        self._settings = settings
        self._pids = pids
        self._books = Books(settings, pipeline)
        self._accounts: dict[int, Account] = {}

    async def follow(self) -> None:
        due = time.monotonic() + WRITE_EVERY
        while True:
            await asyncio.to_thread(self._look)
            if time.monotonic() >= due:
                due += WRITE_EVERY
                await self._books.write(*self._accounts.values())
            await asyncio.sleep(EVERY)

    async def close(self) -> None:
        """Take the last reading while the servers run, and write it."""
        await asyncio.to_thread(self._look)
        await self._books.write(*self._accounts.values())

    def _look(self) -> None:
        for name, pid in dict(self._pids()).items():
            with suppress(psutil.NoSuchProcess):  # it is being restarted
                if pid not in self._accounts:
                    self._accounts[pid] = account(self._settings, name, pid)
                mine = self._accounts[pid]
                if (now := tree_reading(pid, mine.last)) is not None:
                    mine.take(now)
