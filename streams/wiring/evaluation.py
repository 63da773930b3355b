"""The application that counts `P.examples` into `P.metrics`, and `P.scored` into `P.drift`."""

from __future__ import annotations

from functools import partial

from streams.engine.app import BatchApp
from streams.evaluation.processor import Evaluation
from streams.kafka.reading import read_partition
from streams.kafka.topic_watch import TopicWatch
from streams.ledger.references import LedgerReferences
from streams.ledger.topic import LedgerFollower
from streams.settings import Settings
from streams.spec import Pipeline
from streams.wiring.application import Parts, application, unhurried


def evaluation_app(settings: Settings, pipeline: Pipeline) -> BatchApp:
    """The application that counts what was served, and with which label."""
    relaxed = unhurried(settings)
    parts = _EvaluationParts(relaxed, pipeline)
    topics = (pipeline.topics.examples, pipeline.topics.scored)
    return application(relaxed, pipeline, parts, "evaluate", topics)


class _EvaluationParts(Parts):
    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        read = (topics.examples, topics.scored, topics.models)
        written = (topics.metrics, topics.drift, topics.dead_letters)
        super().__init__(settings, pipeline, TopicWatch(settings, pipeline, read, written))
        self._ledger = LedgerFollower(settings, pipeline, lambda: None)
        self._references = LedgerReferences(pipeline, lambda: self._ledger.state)

    async def start(self) -> None:
        await super().start()
        await self._connected(self._ledger.start)

    async def stop(self) -> None:
        await self._ledger.stop()
        await super().stop()

    def processor(self, partition: int) -> Evaluation:
        read_cells = partial(read_partition, self._settings)
        return Evaluation(self._pipeline, partition, read_cells, self._references)
