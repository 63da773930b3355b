"""What the applications have in common: how one is made, run, and watched."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TypeVar

import structlog

from streams.adapters.redis.state import RedisFeatureState
from streams.aio.retrying import until_available
from streams.engine.app import BatchApp, NewBackground, Work
from streams.engine.process import run
from streams.errors import DriftloopError, Unavailable
from streams.kafka import workarounds
from streams.kafka.history import require_none_under_way
from streams.kafka.reaching import not_allowed
from streams.kafka.reading import read_range
from streams.kafka.topic_watch import TopicWatch
from streams.kafka.topics import ensure_topics, topics_read
from streams.metering.meter import Meter
from streams.ports.batches import Processor, ReadRange
from streams.ports.features import FeatureState
from streams.preflight import exactly_once
from streams.settings import Settings
from streams.spec import Pipeline

_LAG_SECONDS = 1.0
_WATCH_SECONDS = 3.0
"""How often a worker looks whether its topics and servers are still what they were."""
_WAIT_MS, _SPAN_MS = 250.0, 1000.0
"""What an unhurried worker takes in place of smaller `batch_wait_ms` and `transaction_ms`."""
_RESTORE_SECONDS = 1.0
"""How often a labeller looks whether the feature state still has its labels."""

log = structlog.get_logger(__name__)

T = TypeVar("T")


def unhurried(settings: Settings) -> Settings:
    """Settings of an application that nobody waits for: larger and fewer batches."""
    return settings.model_copy(
        update={
            "batch_wait_ms": max(settings.batch_wait_ms, _WAIT_MS),
            "transaction_ms": max(settings.transaction_ms, _SPAN_MS),
        }
    )


def run_application(build: Callable[[], BatchApp], settings: Settings) -> None:
    """Run an application in this process, until SIGINT or SIGTERM. Raises what ends it."""
    try:
        run(build, settings.log_level)
    except Exception as error:
        if refused := not_allowed(settings, error):
            raise refused from None
        raise


def application(settings: Settings, pipeline: Pipeline, parts: Parts, role: str) -> BatchApp:
    """An application of this role."""
    workarounds.apply()
    meter = Meter(settings, pipeline, role)

    async def start() -> None:
        await parts.start()
        meter.start()

    async def stop() -> None:
        await parts.stop()
        await meter.close()

    work = Work(
        pipeline=pipeline.name,
        role=role,
        topics=topics_read(pipeline, role),
        exactly_once=exactly_once(settings, pipeline),
        new_processor=parts.processor,
        on_start=start,
        on_stop=stop,
        background=parts.background,
        prepare=parts.assigned,
    )
    app = BatchApp(work, settings)
    delivery = "exactly_once" if work.exactly_once else "at_least_once"
    log.info("started", group=work.group, delivery=delivery)

    @app.timer(interval=_LAG_SECONDS)  # type: ignore[untyped-decorator]
    async def refresh_lag() -> None:
        app.observe_lag()

    @app.timer(interval=_WATCH_SECONDS)  # type: ignore[untyped-decorator]
    async def watch() -> None:
        await parts.watch(app)

    @app.timer(interval=_RESTORE_SECONDS)  # type: ignore[untyped-decorator]
    async def restore() -> None:
        try:
            await parts.restore()
        except Exception as error:
            app.failed(error)

    return app


class Parts:
    """What an application's processors share; connected while it runs."""

    background: NewBackground | None = None

    def __init__(self, settings: Settings, pipeline: Pipeline, topics: TopicWatch) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._topics = topics
        self._partitions = 0
        """So many of each topic are there, as far as this worker knows."""

    async def start(self) -> None:
        """Connect."""
        self._partitions = await ensure_topics(self._settings, self._pipeline)
        await self._topics.start()

    async def stop(self) -> None:
        """Disconnect."""

    def processor(self, partition: int) -> Processor:
        """The processor of a partition."""
        raise NotImplementedError

    async def assigned(self, partitions: Collection[int]) -> None:
        """Where the events topic has been given more partitions, give the others as many."""
        most = max(partitions, default=-1) + 1
        if most > self._partitions:
            self._partitions = await until_available(
                self._pipeline.name,
                "topics",
                lambda: ensure_topics(self._settings, self._pipeline),
            )

    async def watch(self, app: BatchApp) -> None:
        """End the worker where a topic was made anew; say what has changed at the servers."""
        try:
            await self.look()
            await self._topics.look(app.topic_ids)
        except Unavailable:
            return  # who works with them says so
        except DriftloopError as error:
            app.failed(error)

    async def look(self) -> None:
        """Say what has changed at the servers, or what else is to be said now and then."""

    async def restore(self) -> None:
        """Bring back what the feature state has lost, where nothing else would ask for it."""

    async def _connected(self, connect: Callable[[], Awaitable[T]]) -> T:
        """Wait, for `connect_timeout`, for a server that has gone since it was checked."""
        deadline = time.monotonic() + self._settings.connect_timeout
        return await until_available(self._pipeline.name, "connect", connect, deadline)


class StatefulParts(Parts):
    """As `Parts`, with the feature state."""

    def __init__(self, settings: Settings, pipeline: Pipeline, topics: TopicWatch) -> None:
        super().__init__(settings, pipeline, topics)
        self._opened: RedisFeatureState | None = None

    @property
    def _state(self) -> FeatureState:
        assert self._opened is not None, "the application has not started"
        return self._opened

    async def start(self) -> None:
        await super().start()
        await self._connected(lambda: require_none_under_way(self._settings, self._pipeline))
        events = self._topics.id_of(self._pipeline.topics.events)
        self._opened = await self._connected(
            lambda: RedisFeatureState.of(self._settings, self._pipeline, events)
        )

    async def stop(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def look(self) -> None:
        if self._opened is not None:
            await self._opened.eviction.watch()
            await self._opened.load.look()


def range_reader(settings: Settings) -> ReadRange:
    """Reads ranges of topics."""
    return partial(read_range, settings)
