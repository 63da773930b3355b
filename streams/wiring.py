"""The composition root of the online path: settings and a pipeline in, an application out.

Nothing connects before the application starts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TypeVar

import structlog

from streams.adapters.redis.state import RedisFeatureState
from streams.adapters.rocksdb.labels import RocksLabelStore
from streams.adapters.triton.endpoints import TritonEndpoints
from streams.aio.retrying import until_available
from streams.engine.app import BatchApp, NewBackground, Work, observe_lag
from streams.engine.process import run
from streams.errors import DriftloopError, Unavailable
from streams.kafka import workarounds
from streams.kafka.past import TopicPredictions
from streams.kafka.progress import GroupProgress
from streams.kafka.reaching import not_allowed
from streams.kafka.reading import read_range
from streams.kafka.sampling import sample_keys
from streams.kafka.topic_ids import together
from streams.kafka.topic_watch import TopicWatch
from streams.kafka.topics import ensure_topics
from streams.labelling.homes import Homes
from streams.labelling.processor import Labelling
from streams.labelling.standby import Standby
from streams.ledger.topic import LedgerFollower
from streams.ports.batches import Background, GroupOffsets, Processor, ReadRange
from streams.ports.features import FeatureState
from streams.preflight import exactly_once
from streams.scoring.partition import PartitionScoring
from streams.scoring.processor import Scoring
from streams.settings import Settings
from streams.spec import Pipeline

_LAG_SECONDS = 1.0
_WATCH_SECONDS = 3.0
"""How often a worker looks whether its topics and servers are still what they were."""
_RESTORE_SECONDS = 1.0
"""How often a labeller looks whether the feature state still has its labels."""

log = structlog.get_logger(__name__)

T = TypeVar("T")


def run_scoring(settings: Settings, pipeline: Pipeline) -> None:
    """Score `P.events` in this process, until SIGINT or SIGTERM. Raises what ends it."""
    _run(partial(scoring_app, settings, pipeline), settings)


def run_labelling(settings: Settings, pipeline: Pipeline) -> None:
    """Join `P.scored` and `P.feedback` in this process, until SIGINT or SIGTERM; raises so, too."""
    _run(partial(labelling_app, settings, pipeline), settings)


def _run(build: Callable[[], BatchApp], settings: Settings) -> None:
    try:
        run(build, settings.log_level)
    except Exception as error:
        if refused := not_allowed(settings, error):
            raise refused from None
        raise


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
        prepare=parts.assigned,
    )
    app = BatchApp(work, settings)
    delivery = "exactly_once" if work.exactly_once else "at_least_once"
    log.info("started", group=work.group, delivery=delivery)

    @app.timer(interval=_LAG_SECONDS)  # type: ignore[untyped-decorator]
    async def refresh_lag() -> None:
        observe_lag(app)

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


class _Parts:
    """What an application's processors share; connected while it runs."""

    background: NewBackground | None = None

    def __init__(self, settings: Settings, pipeline: Pipeline, topics: TopicWatch) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._topics = topics
        self._partitions = 0
        """So many of each topic are there, as far as this worker knows."""
        self._opened: RedisFeatureState | None = None

    @property
    def _state(self) -> FeatureState:
        assert self._opened is not None, "the application has not started"
        return self._opened

    async def start(self) -> None:
        """Connect."""
        self._partitions = await ensure_topics(self._settings, self._pipeline)
        await self._topics.start()
        events = self._topics.id_of(self._pipeline.topics.events)
        self._opened = await self._connected(
            lambda: RedisFeatureState.of(self._settings, self._pipeline, events)
        )

    async def stop(self) -> None:
        """Disconnect."""
        if self._opened is not None:
            await self._opened.close()

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
            if self._opened is not None:
                await self._opened.eviction.watch()
            await self._topics.look(app.topic_ids)
        except Unavailable:
            return  # who works with them says so
        except DriftloopError as error:
            app.failed(error)

    async def restore(self) -> None:
        """Bring back what the feature state has lost, where nothing else would ask for it."""

    async def _connected(self, connect: Callable[[], Awaitable[T]]) -> T:
        """Wait, for `connect_timeout`, for a server that has gone since it was checked."""
        deadline = time.monotonic() + self._settings.connect_timeout
        return await until_available(self._pipeline.name, "connect", connect, deadline)


class _ScoringParts(_Parts):
    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        read = (topics.events, topics.models)
        written = (topics.predictions, topics.scored, topics.dead_letters)
        super().__init__(settings, pipeline, TopicWatch(settings, pipeline, read, written))
        self._champion = LedgerFollower(settings, pipeline)
        self._scorer = TritonEndpoints.of(settings, pipeline, lambda: self._champion.state.versions)
        self._scoring: Scoring | None = None

    async def start(self) -> None:
        await super().start()
        await self._connected(self._champion.start)
        self._scorer.watch(lambda: self._champion.version)
        topics = self._pipeline.topics
        self._scoring = Scoring(
            self._pipeline,
            self._state,
            self._scorer,
            self._champion,
            _reader(self._settings),
            TopicPredictions(self._settings, topics.predictions, self._topics.id_of(topics.events)),
            GroupProgress(self._settings, self._pipeline),
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
        topics = pipeline.topics
        read = (topics.events, topics.scored, topics.feedback)
        written = (topics.examples, topics.dead_letters)
        super().__init__(settings, pipeline, TopicWatch(settings, pipeline, read, written))
        self._read_range = _reader(settings)
        self._homes = Homes()
        self._seen = 0
        """For so many partitions it was seen where the events of a key are."""
        self._progress = GroupProgress(settings, pipeline)
        self._labelling: dict[int, Labelling] = {}
        """The latest of each partition; those that are closed are at rest."""
        self.background = self._standby if settings.standby else None

    @property
    def _joined(self) -> str:
        """Names the topics that are joined, by their ids."""
        topics = self._pipeline.topics
        return together([self._topics.id_of(topic) for topic in (topics.scored, topics.feedback)])

    def processor(self, partition: int) -> Labelling:
        store = partial(self._store, partition)
        self._labelling[partition] = labelling = Labelling(
            self._pipeline,
            partition,
            store,
            self._state,
            self._read_range,
            self._joined,
            self._scored_to,
            self._homes,
        )
        return labelling

    async def restore(self) -> None:
        """Label windows come back though no records come: scoring workers wait for them."""
        await asyncio.gather(*(one.restore() for one in self._labelling.values()))

    async def assigned(self, partitions: Collection[int]) -> None:
        """See by what was served where the events of a key are; once for a number of partitions."""
        await super().assigned(partitions)
        if self._partitions == self._seen:
            return
        self._seen = self._partitions
        self._homes = await until_available(self._pipeline.name, "open", self._find_homes)
        if self._homes.unexplained:
            log.warning(
                "events are partitioned in a way of their own: a label finds its event only where "
                "feedback is partitioned in the same way",
                known=str(self._homes),
            )

    async def _find_homes(self) -> Homes:
        return Homes.of(*await sample_keys(self._settings, self._pipeline.topics.scored))

    async def _scored_to(self, partition: int) -> int:
        """How far the scoring workers have committed a partition; waits while Kafka is away."""
        found = await until_available(self._pipeline.name, "open", self._progress.scored)
        return found.get(partition, 0)

    def _store(self, partition: int) -> RocksLabelStore:
        home = self._settings.state_dir / "labels" / self._pipeline.name
        return RocksLabelStore(home / (self._joined or "topics") / str(partition))

    def _standby(self, committed: GroupOffsets) -> Background:
        return Standby(self._pipeline, self._store, committed, self._read_range).run


def _reader(settings: Settings) -> ReadRange:
    return partial(read_range, settings)
