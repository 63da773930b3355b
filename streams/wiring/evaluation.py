"""The application that counts `P.examples` into `P.metrics`."""

from __future__ import annotations

import time
from functools import partial

from streams.engine.app import BatchApp
from streams.evaluation.processor import Evaluation
from streams.evaluation.recent import RecentQuality
from streams.kafka.reading import read_partition
from streams.kafka.topic_watch import TopicWatch
from streams.settings import Settings
from streams.spec import Pipeline
from streams.wiring.application import Parts, application

_QUALITY_SECONDS = 30.0
"""How often the gauges of quality are set."""


def evaluation_app(settings: Settings, pipeline: Pipeline) -> BatchApp:
    """The application that counts `P.examples` into `P.metrics`."""
    parts = _EvaluationParts(settings, pipeline)
    return application(settings, pipeline, parts, "evaluate", (pipeline.topics.examples,))


class _EvaluationParts(Parts):
    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        read, written = (topics.examples,), (topics.metrics, topics.dead_letters)
        super().__init__(settings, pipeline, TopicWatch(settings, pipeline, read, written))
        self._made: dict[int, Evaluation] = {}
        """The last of each partition; one that was closed has no cells."""
        self._recent = RecentQuality(pipeline.name)
        self._due = 0.0

    def processor(self, partition: int) -> Evaluation:
        read_cells = partial(read_partition, self._settings, self._pipeline.topics.metrics)
        self._made[partition] = Evaluation(self._pipeline, partition, read_cells)
        return self._made[partition]

    async def look(self) -> None:
        """Say how good each version has been lately."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _QUALITY_SECONDS
            self._recent.observe({one: made.cells for one, made in self._made.items()})
