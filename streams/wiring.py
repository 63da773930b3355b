"""The composition root of the online path: settings and a pipeline in, an application out.

Nothing connects before the application starts.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeVar

from aiokafka import ConsumerRecord, TopicPartition

from streams.adapters.redis_state import RedisFeatureState
from streams.adapters.rocks_labels import RocksLabelStore
from streams.adapters.triton_control import TritonControls
from streams.adapters.triton_endpoints import TritonEndpoints
from streams.folding import ReadRange
from streams.labelling import Labelling
from streams.ledger import LedgerFollower
from streams.ports import FeatureState
from streams.retrying import until_available
from streams.scoring import PartitionScoring, Scoring
from streams.settings import Settings
from streams.spec import Pipeline
from streams.standby import Standby
from streams.transport import clients
from streams.transport.app import BatchApp, NewBeside, Work, observe_lag
from streams.transport.lanes import Beside, Processor
from streams.transport.offsets import Committed

_LAG_SECONDS = 1.0

T = TypeVar("T")


async def check_servers(settings: Settings, pipeline: Pipeline, *, triton: bool) -> None:
    """Reach each server once and create missing topics, so that a mistake shows at the start.

    Raises:
        Unavailable: names the address that does not answer and its setting.
        ConfigurationError: exactly once is asked for, and the brokers cannot.
    """
    await clients.ensure_topics(settings, pipeline)
    if _exactly_once(settings, pipeline):
        await clients.check_transactions(settings, pipeline.name)
    state = await _connect_state(settings, pipeline)
    await state.close()
    if triton:
        control = TritonControls(settings, pipeline.name)
        try:
            await control.any_alive()
        finally:
            await control.close()


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
    work = Work(
        pipeline=pipeline.name,
        role=role,
        topics=topics,
        exactly_once=_exactly_once(settings, pipeline),
        new_processor=parts.processor,
        on_start=parts.start,
        on_stop=parts.stop,
        beside=parts.beside,
    )
    app = BatchApp(work, settings)

    @app.timer(interval=_LAG_SECONDS)  # type: ignore[untyped-decorator]
    async def refresh_lag() -> None:
        observe_lag(app)

    return app


def _exactly_once(settings: Settings, pipeline: Pipeline) -> bool:
    return (settings.delivery or pipeline.policies.delivery) == "exactly_once"


class _Parts:
    """What an application's processors share; connected while it runs."""

    beside: NewBeside | None = None

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
        await clients.ensure_topics(self._settings, self._pipeline)
        self._opened = await self._connected(lambda: _connect_state(self._settings, self._pipeline))

    async def stop(self) -> None:
        """Disconnect."""
        if self._opened is not None:
            await self._opened.close()

    def processor(self, partition: int) -> Processor:
        """The processor of a partition."""
        raise NotImplementedError

    async def _connected(self, connect: Callable[[], Awaitable[T]]) -> T:
        """Wait for a server that has gone since it was checked, as long as one is waited for."""
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
        self.beside = self._standby if settings.standby else None

    def processor(self, partition: int) -> Labelling:
        store = partial(self._store, partition)
        return Labelling(self._pipeline, partition, store, self._state, self._read_range)

    def _store(self, partition: int) -> RocksLabelStore:
        home = self._settings.state_dir / "labels" / self._pipeline.name
        return RocksLabelStore(home / str(partition))

    def _standby(self, committed: Committed) -> Beside:
        return Standby(self._pipeline, self._store, committed, self._read_range).run


async def _connect_state(settings: Settings, pipeline: Pipeline) -> RedisFeatureState:
    return await RedisFeatureState.connect(
        settings.redis.get_secret_value(), pipeline.name, pipeline.plan, settings.connect_timeout
    )


def _reader(settings: Settings) -> ReadRange:
    def read(
        topic: str, partition: int, first: int, end: int
    ) -> AsyncIterator[list[ConsumerRecord]]:
        return clients.read_range(settings, TopicPartition(topic, partition), first, end)

    return read
