"""The composition root of the online path: settings and a pipeline in, an application out.

Nothing connects before the application starts.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import structlog

from streams.adapters.redis.state import RedisFeatureState
from streams.adapters.rocksdb.labels import RocksLabelStore
from streams.adapters.triton.endpoints import TritonEndpoints
from streams.aio.retrying import until_available
from streams.engine.app import BatchApp, NewBackground, Work, observe_lag
from streams.engine.process import run
from streams.kafka import workarounds
from streams.kafka.reading import read_range
from streams.kafka.topics import ensure_topics
from streams.labelling.processor import Labelling
from streams.labelling.standby import Standby
from streams.ledger.topic import LedgerFollower
from streams.ports.batches import Background, GroupOffsets, Processor, ReadRange
from streams.ports.features import FeatureState
from streams.preflight import exactly_once
from streams.scoring.processor import PartitionScoring, Scoring
from streams.settings import Settings
from streams.spec import Pipeline

_LAG_SECONDS = 1.0

log = structlog.get_logger(__name__)

T = TypeVar("T")


def run_scoring(settings: Settings, pipeline: Pipeline) -> None:
    """Score `P.events` in this process, until SIGINT or SIGTERM. Raises `Halted`."""
    run(partial(scoring_app, settings, pipeline), settings.log_level)


def run_labelling(settings: Settings, pipeline: Pipeline) -> None:
    """Join `P.scored` and `P.feedback` in this process, until SIGINT or SIGTERM."""
    run(partial(labelling_app, settings, pipeline), settings.log_level)


def scoring_app(settings: Settings, pipeline: Pipeline) -> BatchApp:
    """The application that scores `P.events`."""
    parts = _ScoringParts(settings, pipeline)
    return _app(settings, pipeline, parts, "score", (pipeline.topics.events,))


def labelling_app(settings: Settings, pipeline: Pipeline) -> BatchApp:
    """The application that joins `P.scored` and `P.feedback` into `P.examples`."""
    parts = _LabellingParts(settings, pipeline)
    topics = (pipeline.topics.scored, pipeline.topics.feedback)
    return _app(settings, pipeline, parts, "label", topics)


def _app(
    settings: Settings, pipeline: Pipeline, parts: _Parts, role: str, topics: tuple[str, ...]
) -> BatchApp:
    workarounds.apply()
    work = Work(
        pipeline=pipeline.name,
        role=role,
        topics=topics,
        exactly_once=exactly_once(settings, pipeline),
        new_processor=parts.processor,
        on_start=parts.start,
        on_stop=parts.stop,
        background=parts.background,
    )
    app = BatchApp(work, settings)
    delivery = "exactly_once" if work.exactly_once else "at_least_once"
    log.info("started", group=work.group, delivery=delivery)

    @app.timer(interval=_LAG_SECONDS)  # type: ignore[untyped-decorator]
    async def refresh_lag() -> None:
        observe_lag(app)

    return app


class _Parts:
    """What an application's processors share; connected while it runs."""

    background: NewBackground | None = None

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._opened: FeatureState | None = None

    @property
    def _state(self) -> FeatureState:
        assert self._opened is not None, "the application has not started"
        return self._opened

    async def start(self) -> None:
        """Connect."""
        await ensure_topics(self._settings, self._pipeline)
        self._opened = await self._connected(
            lambda: RedisFeatureState.of(self._settings, self._pipeline)
        )

    async def stop(self) -> None:
        """Disconnect."""
        if self._opened is not None:
            await self._opened.close()

    def processor(self, partition: int) -> Processor:
        """The processor of a partition."""
        raise NotImplementedError

    async def _connected(self, connect: Callable[[], Awaitable[T]]) -> T:
        """Wait, for `connect_timeout`, for a server that has gone since it was checked."""
        deadline = time.monotonic() + self._settings.connect_timeout
        return await until_available(self._pipeline.name, "connect", connect, deadline)


class _ScoringParts(_Parts):
    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        super().__init__(settings, pipeline)
        self._scorer = TritonEndpoints.of(settings, pipeline)
        self._champion = LedgerFollower(settings, pipeline)
        self._scoring: Scoring | None = None

    async def start(self) -> None:
        await super().start()
        await self._connected(self._champion.start)
        self._scorer.watch(lambda: self._champion.version)
        self._scoring = Scoring(
            self._pipeline, self._state, self._scorer, self._champion, _reader(self._settings)
        )

    async def stop(self) -> None:
        await self._champion.stop()
        await self._scorer.close()
        await super().stop()

    def processor(self, partition: int) -> PartitionScoring:
        assert self._scoring is not None, "the application has not started"
        return self._scoring.partition(partition)


class _LabellingParts(_Parts):
    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        super().__init__(settings, pipeline)
        self._read_range = _reader(settings)
        self.background = self._standby if settings.standby else None

    def processor(self, partition: int) -> Labelling:
        store = partial(self._store, partition)
        return Labelling(self._pipeline, partition, store, self._state, self._read_range)

    def _store(self, partition: int) -> RocksLabelStore:
        home = self._settings.state_dir / "labels" / self._pipeline.name
        return RocksLabelStore(home / str(partition))

    def _standby(self, committed: GroupOffsets) -> Background:
        return Standby(self._pipeline, self._store, committed, self._read_range).run


def _reader(settings: Settings) -> ReadRange:
    return partial(read_range, settings)
