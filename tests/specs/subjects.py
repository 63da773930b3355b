"""Two kinds of subject for each spec: stock Faust's classes, and ours in both delivery modes.

Each is a whole application (consumer thread, conductor, stream, agent; for ours lanes and writers
too) against the same broker in memory.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiokafka
import faust
import orjson
import pytest
from faust.types import TP

from streams.settings import Settings
from streams.transport import clients
from streams.transport.app import BatchApp, Work
from streams.transport.batches import MicroBatch, Outputs
from streams.transport.lanes import Processor
from tests.specs.broker import Broker

EVENTS = TP("events", 0)
OURS = ("at_least_once", "exactly_once")
_numbers = itertools.count()


class Violation(AssertionError):
    """The subject did what a lossless consumer must not do. All else is a broken set-up."""


def must(holds: bool, what: str) -> None:
    """State what a lossless consumer must do."""
    if not holds:
        raise Violation(what)


async def until(
    condition: Callable[[], bool], what: str = "the set-up", within: float = 5.0
) -> None:
    """Wait for the set-up."""
    try:
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise RuntimeError(f"not after {within} s: {what}") from None


async def must_come(condition: Callable[[], bool], what: str, within: float = 1.0) -> None:
    """State what a lossless consumer must get to."""
    try:
        await until(condition, what, within)
    except RuntimeError:
        raise Violation(what) from None


def spec(fault: str) -> pytest.MarkDecorator:
    """A spec that ours keep and that stock Faust breaks by `fault`."""
    breaks = pytest.mark.xfail(raises=Violation, strict=True, reason=fault)
    return pytest.mark.parametrize("kind", [pytest.param("stock", marks=breaks), *OURS])


class Job:
    """What is done with each record's value; can be held at one, or fail at one."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.done: list[bytes] = []
        self.fails: set[bytes] = set()
        self._held: dict[bytes, asyncio.Event] = {}

    def hold(self, *values: bytes) -> None:
        """Stay at these values until `release`."""
        self._held.update({value: asyncio.Event() for value in values})

    def release(self) -> None:
        """Go on, wherever it is held."""
        for held in self._held.values():
            held.set()
        self._held.clear()

    async def __call__(self, value: bytes) -> None:
        self.seen.append(value)
        if value in self._held:
            await self._held[value].wait()
        if value in self.fails:
            raise ValueError(f"cannot do {value!r}")
        self.done.append(value)


@dataclass
class Subject:
    """A running application."""

    kind: str
    app: Any
    broker: Broker
    job: Job

    @property
    def ours(self) -> bool:
        return self.kind != "stock"

    @property
    def ended(self) -> bool:
        """Whether it gave up, so that another takes over from what is committed."""
        return bool(self.app.crashed)

    async def commit(self) -> None:
        """Have all committed that the subject holds to be done."""
        if self.ours:
            await asyncio.sleep(0.1)  # some transactions long: the lanes commit by themselves
        else:
            await asyncio.sleep(0.02)  # a stream acknowledges a record when it asks for the next
            await self.app.consumer.commit()

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


@dataclass(frozen=True)
class Stock:
    """How the stock application is made, where it matters."""

    concurrency: int = 1
    buffer: int = 4096
    take: int = 0
    soon: bool = False
    """Outputs by `send_soon`, as Faust's tables write their changelogs."""
    serializer: str = "raw"


NewProcessor = Callable[[int], Processor]


@asynccontextmanager
async def running(
    kind: str, broker: Broker, patch: pytest.MonkeyPatch, *, stock: Stock = Stock(),
    new_processor: NewProcessor | None = None, **settings: Any,
) -> AsyncIterator[Subject]:  # fmt: skip
    """A subject that owns `EVENTS` and consumes."""
    patch.setattr(aiokafka, "AIOKafkaConsumer", broker.new_consumer)
    patch.setattr(aiokafka, "AIOKafkaProducer", broker.new_producer)
    patch.setattr(clients, "AIOKafkaProducer", broker.new_producer)
    job = Job()
    app = (
        _stock_app(stock, job)
        if kind == "stock"
        else _our_app(kind, new_processor or (lambda _: _Doing(job)), settings)
    )
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


def _stock_app(stock: Stock, job: Job) -> faust.App:
    app = faust.App(
        f"spec{next(_numbers)}", broker="kafka://nowhere:9092", store="memory://",
        web_enabled=False, topic_allow_declare=False, topic_disable_leader=True,
        stream_recovery_delay=0.0, loop=asyncio.get_running_loop(), datadir="/nowhere",
        broker_commit_interval=3600.0, stream_buffer_maxsize=stock.buffer,
    )  # fmt: skip
    app._create_directories = lambda: None
    events = app.topic(EVENTS.topic, value_serializer=stock.serializer)
    out = app.topic("out", value_serializer="raw")

    def raw(value: Any) -> bytes:
        return orjson.dumps(value) if stock.serializer == "json" else value

    async def one(stream: Any) -> None:
        async for found in stream:
            value = raw(found)
            await job(value)
            if stock.soon:
                out.send_soon(value=value, partition=0)
            else:
                await out.send(value=value, partition=0)

    async def many(stream: Any) -> None:
        async for values in stream.take(stock.take, within=0.02):
            for value in values:
                await job(raw(value))

    app.agent(events, concurrency=stock.concurrency, name="job")(many if stock.take else one)
    return app


def _our_app(kind: str, new_processor: NewProcessor, settings: Mapping[str, Any]) -> BatchApp:
    async def nothing() -> None:
        pass

    work = Work(
        pipeline=f"spec{next(_numbers)}",
        role="score",
        topics=(EVENTS.topic,),
        exactly_once=kind == "exactly_once",
        new_processor=new_processor,
        on_start=nothing,
        on_stop=nothing,
    )
    quick = {"transaction_ms": 20.0, "batch_wait_ms": 0.0, "session_timeout_ms": 900}
    chosen = Settings(kafka="nowhere:9092").model_copy(update={**quick, **settings})
    return BatchApp(work, chosen)


class _Doing:
    """The processor that does the job and passes values on."""

    def __init__(self, job: Job) -> None:
        self._job = job

    async def open(self, committed: Mapping[str, int | None]) -> None:
        pass

    async def process(self, batch: MicroBatch) -> Outputs:
        for record in batch.records:
            await self._job(record.value)
        return {"out": [(b"k", record.value, []) for record in batch.records]}

    async def commit(self) -> None:
        pass

    async def close(self) -> None:
        pass
