"""What a training run uses, by the process that waits for it: exact, however the run ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams.aio.cancelling import cancel
from streams.metering.account import Account
from streams.metering.meter import EVERY, WRITE_EVERY, Books
from streams.metering.prices import TRAINING
from streams.metering.reading import account, cpu_of_children, tree_reading
from streams.settings import Settings
from streams.spec import Pipeline

FAILED, STOPPED, REPEATED = "failed", "stopped", "repeated"
"""What becomes of a run that makes no version, beside what the ledger says of those that do."""


class RunMeter:
    """Meters the attempts of one training run; each has records of its own in `P.costs`."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._books = Books(settings, pipeline)
        self._account: Account | None = None
        self.gpus = 0
        """That the run holds now."""

    @asynccontextmanager
    async def child(self, pid: int) -> AsyncIterator[None]:
        """Meters a child; it has been waited for when the block ends."""
        await self.end(FAILED)  # the attempt before
        self.gpus, before = 0, cpu_of_children()
        self._account = mine = account(self._settings, TRAINING, pid)
        following = asyncio.create_task(self._follow(mine, pid), name="meter")
        try:
            yield
        finally:
            await cancel(following)
            used = max(mine.last.cpu_seconds, cpu_of_children() - before)
            mine.take(mine.last._replace(at=time.time(), clock=time.monotonic(), cpu_seconds=used))

    async def end(self, outcome: str, version: int = 0) -> None:
        """Say what the run has become, if it has begun."""
        if self._account is not None:
            self._account.end(outcome, version)
            await self._books.write(self._account)
        self._account = None

    async def _follow(self, mine: Account, pid: int) -> None:
        due = time.monotonic() + WRITE_EVERY
        while True:
            now = await asyncio.to_thread(tree_reading, pid, mine.last, self.gpus)
            if now is None:
                return
            mine.take(now)
            if time.monotonic() >= due:
                due += WRITE_EVERY
                await self._books.write(mine)
            await asyncio.sleep(EVERY)
