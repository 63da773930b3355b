"""Two kinds of subject for each spec: stock Faust's classes, and ours in both delivery modes.

Each is a whole application (consumer thread, conductor, stream, agent; for ours lanes and writers
too) against the same broker in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiokafka
import pytest
from faust.types import TP

from streams.engine import app as engine
from streams.kafka import connection
from streams.testing.broker import MemoryBroker
from tests.faust_faults.applications import (
    Doing,
    Job,
    NewProcessor,
    Place,
    Stock,
    our_app,
    stock_app,
)
from tests.waiting import NotInTimeError, until

EVENTS = TP("events", 0)
OURS = ("at_least_once", "exactly_once")
PLAIN = Stock()
_COMMITS = 10
"""Commits of stock Faust, whose threads a busy machine holds up."""
PLACE = Place("nowhere:9092", EVENTS.topic, "out")


class Violation(AssertionError):
    """The subject did what a lossless consumer must not do. All else is a broken set-up."""


def must(holds: bool, what: str) -> None:
    """State what a lossless consumer must do."""
    if not holds:
        raise Violation(what)


async def must_come(condition: Callable[[], bool], what: str, within: float = 1.0) -> None:
    """State what a lossless consumer must get to."""
    try:
        await until(condition, what, within)
    except NotInTimeError:
        raise Violation(what) from None


def spec(fault: str, ours: Sequence[str] = OURS) -> pytest.MarkDecorator:
    """A spec that ours keep and that stock Faust breaks by `fault`."""
    breaks = pytest.mark.xfail(raises=Violation, strict=True, reason=fault)
    return pytest.mark.parametrize("kind", [pytest.param("stock", marks=breaks), *ours])


@dataclass
class Subject:
    """A running application."""

    kind: str
    app: Any
    broker: MemoryBroker
    job: Job

    @property
    def ours(self) -> bool:
        return self.kind != "stock"

    @property
    def ended(self) -> bool:
        """Whether it gave up, so that another takes over from what is committed."""
        return bool(self.app.crashed)

    @property
    def working(self) -> int:
        """How many of its partitions it works on."""
        if not self.ours:
            return len(self.app.consumer.assignment())
        return sum(not task.done() for task in self.app.lanes._tasks.values())

    async def commit(self) -> None:
        """Have all committed that the subject holds to be done."""
        if self.ours:
            await asyncio.sleep(0.1)  # some transactions long: the lanes commit by themselves
            return
        for _ in range(_COMMITS):
            await asyncio.sleep(0.02)  # a stream acknowledges a record when it asks for the next
            await self.app.consumer.commit()
            if self.lost:
                return

    @property
    def committed(self) -> int:
        """What the broker has for `EVENTS`; 0 where that is nothing."""
        return self.broker.committed.get(EVENTS, 0)

    @property
    def lost(self) -> list[int]:
        """Offsets that are committed although the job was not done with their records."""
        below = (r for r in self.broker.log.get(EVENTS, []) if r.offset < self.committed)
        return [record.offset for record in below if record.value not in self.job.done]

    async def rebalance(self, assigned: Set[TP] = frozenset({EVENTS}), **options: Any) -> None:
        """A rebalance after which it owns `assigned`, up to where it consumes again."""
        await self.broker.rebalance(set(assigned), **options)
        await until(lambda: not self.app.rebalancing, "resumed after a rebalance")


@asynccontextmanager
async def running(
    kind: str,
    broker: MemoryBroker,
    patch: pytest.MonkeyPatch,
    *,
    stock: Stock = PLAIN,
    new_processor: NewProcessor | None = None,
    **settings: Any,
) -> AsyncIterator[Subject]:
    """A subject that owns `EVENTS` and consumes."""
    patch.setattr(aiokafka, "AIOKafkaConsumer", broker.new_consumer)
    patch.setattr(aiokafka, "AIOKafkaProducer", broker.new_producer)
    patch.setattr(connection, "Producer", broker.new_producer)
    job = Job()
    app = (
        stock_app(PLACE, stock, job)
        if kind == "stock"
        else our_app(PLACE, kind, new_processor or (lambda _: Doing(job, PLACE.out)), settings)
    )
    # would keep what each spec leaves behind
    patch.setattr(engine, "_spare_the_collector", lambda: None)
    # a second that Faust gives its tables to be declared: there are none
    patch.setattr(app.tables, "sleep", lambda _: asyncio.sleep(0))
    subject = Subject(kind, app, broker, job)
    try:
        async with asyncio.timeout(20):
            starting = asyncio.create_task(app.start())  # ends when it has been assigned
            await until(lambda: broker.consumer is not None and broker.consumer.subscribed)
            await subject.rebalance()
            await starting
        yield subject
    finally:
        job.release()
        async with asyncio.timeout(20):
            await app.stop()
