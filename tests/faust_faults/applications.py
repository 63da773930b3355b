"""The applications that the specs are about: stock Faust's and ours, doing the same job."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import faust
import orjson

from streams.engine.app import BatchApp, Work
from streams.ports.batches import MicroBatch, Outputs, Processor
from streams.settings import Settings

NewProcessor = Callable[[int], Processor]
_numbers = itertools.count()


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


@dataclass(frozen=True)
class Place:
    """Where an application reads and writes."""

    kafka: str
    events: str
    out: str


@dataclass(frozen=True)
class Stock:
    """How the stock application is made, where it matters."""

    concurrency: int = 1
    buffer: int = 4096
    take: int = 0
    soon: bool = False
    """Outputs by `send_soon`, as Faust's tables write their changelogs."""
    serializer: str = "raw"


def stock_app(place: Place, stock: Stock, job: Job) -> Any:
    """An agent that does the job with each record and passes its value on."""
    app = faust.App(
        f"spec{next(_numbers)}",
        broker=f"kafka://{place.kafka}",
        store="memory://",
        broker_session_timeout=6.0,
        broker_heartbeat_interval=0.3,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_recovery_delay=0.0,
        loop=asyncio.get_running_loop(),
        datadir="/nowhere",
        broker_commit_interval=3600.0,
        stream_buffer_maxsize=stock.buffer,
    )
    app._create_directories = lambda: None
    events = app.topic(place.events, value_serializer=stock.serializer)
    out = app.topic(place.out, value_serializer="raw")

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


def our_app(
    place: Place, kind: str, new_processor: NewProcessor, settings: Mapping[str, Any]
) -> BatchApp:
    """Ours, as `kind` of delivery; what else is in `settings` replaces the quick ones."""

    async def nothing() -> None:
        pass

    work = Work(
        pipeline=f"spec{next(_numbers)}",
        role="score",
        topics=(place.events,),
        exactly_once=kind == "exactly_once",
        new_processor=new_processor,
        on_start=nothing,
        on_stop=nothing,
    )
    quick = {
        "transaction_ms": 20.0,
        "commit_ms": 20.0,
        "batch_wait_ms": 0.0,
        "session_timeout_ms": 900,
    }
    chosen = Settings(kafka=place.kafka).model_copy(update={**quick, **settings})
    return BatchApp(work, chosen)


class Doing:
    """The processor that does the job and passes values on."""

    def __init__(self, job: Job, out: str) -> None:
        self._job = job
        self._out = out

    async def open(self, committed: Mapping[str, int | None]) -> Mapping[str, int]:
        return {}

    async def process(self, batch: MicroBatch) -> Outputs:
        for record in batch.records:
            await self._job(record.value or b"")
        return {self._out: [(b"k", record.value, []) for record in batch.records]}

    async def commit(self) -> None:
        pass

    async def close(self) -> None:
        pass
