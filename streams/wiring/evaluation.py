"""The application that counts `P.examples` into `P.metrics`, and `P.scored` into `P.drift`."""

from __future__ import annotations

import time
from functools import partial

from streams.engine.app import BatchApp
from streams.evaluation.processor import Evaluation
from streams.evaluation.recent import RecentQuality
from streams.kafka.reading import read_partition
from streams.kafka.topic_watch import TopicWatch
from streams.ledger.references import LedgerReferences
from streams.ledger.topic import LedgerFollower
from streams.settings import Settings
from streams.spec import Pipeline
from streams.wiring.application import Parts, application, unhurried

_QUALITY_SECONDS = 30.0
"""How often the gauges of quality are set."""


def evaluation_app(settings: Settings, pipeline: Pipeline) -> BatchApp:
    """The application that counts what was served, and with which label."""
    relaxed = unhurried(settings)
    parts = _EvaluationParts(relaxed, pipeline)
    return application(relaxed, pipeline, parts, "evaluate")


class _EvaluationParts(Parts):
    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        read = (topics.examples, topics.scored, topics.models)
        written = (topics.metrics, topics.drift, topics.dead_letters)
        super().__init__(settings, pipeline, TopicWatch(settings, pipeline, read, written))
        self._ledger = LedgerFollower(settings, pipeline, lambda: None)
        self._references = LedgerReferences(pipeline, lambda: self._ledger.state)
        self._made: dict[int, Evaluation] = {}
        """The last of each partition; one that was closed has no cells."""
        self._recent = RecentQuality(pipeline.name)
        self._due = 0.0

    async def start(self) -> None:
        await super().start()
        await self._connected(self._ledger.start)

    async def stop(self) -> None:
        await self._ledger.stop()
        await super().stop()

    def processor(self, partition: int) -> Evaluation:
        read_cells = partial(read_partition, self._settings)
        made = Evaluation(self._pipeline, partition, read_cells, self._references)
        self._made[partition] = made
        return made

    async def look(self) -> None:
        """Say how good each version has been lately."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _QUALITY_SECONDS
            self._recent.observe({one: made.cells for one, made in self._made.items()})
