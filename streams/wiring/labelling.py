"""The application that joins `P.scored` and `P.feedback` into `P.examples`."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial

import structlog

from streams.adapters.rocksdb.labels import RocksLabelStore
from streams.aio.retrying import until_available
from streams.engine.app import BatchApp
from streams.kafka.progress import GroupProgress
from streams.kafka.sampling import sample_keys
from streams.kafka.topic_ids import together
from streams.kafka.topic_watch import TopicWatch
from streams.labelling.homes import Homes
from streams.labelling.processor import Labelling
from streams.labelling.standby import Standby
from streams.ports.batches import Background, GroupOffsets
from streams.settings import Settings
from streams.spec import Pipeline
from streams.wiring.application import StatefulParts, application, range_reader

log = structlog.get_logger(__name__)


def labelling_app(settings: Settings, pipeline: Pipeline) -> BatchApp:
    """The application that joins `P.scored` and `P.feedback` into `P.examples`."""
    parts = _LabellingParts(settings, pipeline)
    return application(settings, pipeline, parts, "label")


class _LabellingParts(StatefulParts):
    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        read = (topics.events, topics.scored, topics.feedback)
        written = (topics.examples, topics.dead_letters)
        super().__init__(settings, pipeline, TopicWatch(settings, pipeline, read, written))
        self._read_range = range_reader(settings)
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
