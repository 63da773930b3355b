"""The application that counts `P.examples` into `P.metrics`."""

from __future__ import annotations

from functools import partial

from streams.engine.app import BatchApp
from streams.evaluation.processor import Evaluation
from streams.kafka.reading import read_partition
from streams.kafka.topic_watch import TopicWatch
from streams.settings import Settings
from streams.spec import Pipeline
from streams.wiring.application import Parts, application


def evaluation_app(settings: Settings, pipeline: Pipeline) -> BatchApp:
    """The application that counts `P.examples` into `P.metrics`."""
    parts = _EvaluationParts(settings, pipeline)
    return application(settings, pipeline, parts, "evaluate", (pipeline.topics.examples,))


class _EvaluationParts(Parts):
    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        read, written = (topics.examples,), (topics.metrics, topics.dead_letters)
        super().__init__(settings, pipeline, TopicWatch(settings, pipeline, read, written))

    def processor(self, partition: int) -> Evaluation:
        read_cells = partial(read_partition, self._settings, self._pipeline.topics.metrics)
        return Evaluation(self._pipeline, partition, read_cells)
