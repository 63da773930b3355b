"""The meter of a process: reads what it uses every other second, and writes that to `P.costs`."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict

import structlog

from streams import telemetry
from streams.aio.cancelling import cancel
from streams.errors import DriftloopError
from streams.kafka.writing import put
from streams.metering.account import Account
from streams.metering.prices import Prices
from streams.metering.reading import account, own_reading
from streams.records import encode
from streams.settings import Settings
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

EVERY = 2.0
"""Seconds between two readings."""
WRITE_EVERY = 60.0
"""So much is lost at most where a process is killed."""


class Books:
    """Writes accounts to `P.costs`, and tells Prometheus what they cost.

    A broker that is away stops nothing: a record holds all of its day, so that the next one has
    what this one lacks.
    """

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._prices = Prices.of_settings(settings)
        self._told: defaultdict[str, float] = defaultdict(float)
        """What Prometheus knows of, by record."""
        self._failing = False

    async def write(self, *accounts: Account) -> None:
        """Write what has changed. Where that fails, the log says so, once."""
        found = [(one, one.changed()) for one in accounts]
        records = [record for _, changed in found for record in changed]
        if not records:
            return
        for record in records:
            cost = self._prices.cost(record)
            telemetry.COST.labels(self._pipeline.name, record.role).inc(
                max(0.0, cost - self._told[record.key])
            )
            self._told[record.key] = max(cost, self._told[record.key])
        try:
            async with asyncio.timeout(2 * self._settings.connect_timeout):
                await put(
                    self._settings,
                    self._pipeline.topics.costs,
                    [(record.key.encode(), encode(record)) for record in records],
                )
        except (DriftloopError, TimeoutError) as error:
            if not self._failing:
                log.warning(
                    "what this process uses cannot be written down, trying again each minute",
                    error=str(error) or "no answer",
                )
            self._failing = True
            return
        self._failing = False
        for one, changed in found:
            one.written(changed)


class Meter:
    """What this process uses, from `start` to `close`, and what it used before."""

    def __init__(self, settings: Settings, pipeline: Pipeline, role: str) -> None:
        self._pipeline = pipeline
        self._account = account(settings, role)
        self._books = Books(settings, pipeline)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read, and to write each minute."""
        self._task = asyncio.create_task(self._follow(), name="meter")

    async def close(self) -> None:
        """Write the last reading."""
        if self._task is None:
            return
        await cancel(self._task)
        self._account.take(own_reading(self._pipeline.name))
        await self._books.write(self._account)

    async def _follow(self) -> None:
        due = time.monotonic() + WRITE_EVERY
        while True:
            await asyncio.sleep(EVERY)
            self._account.take(own_reading(self._pipeline.name))
            if time.monotonic() >= due:
                due += WRITE_EVERY
                await self._books.write(self._account)
