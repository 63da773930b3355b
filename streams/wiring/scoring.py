"""The application that scores `P.events`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streams.adapters.triton.endpoints import TritonEndpoints
from streams.adapters.triton.load import TritonLoads
from streams.engine.app import BatchApp
from streams.kafka.past import TopicPredictions
from streams.kafka.progress import GroupProgress
from streams.kafka.topic_watch import TopicWatch
from streams.ledger.topic import LedgerFollower
from streams.ports.models import Champion, Scorer
from streams.records import Manifest
from streams.scoring.partition import PartitionScoring
from streams.scoring.processor import Scoring
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.layout import Rows
from streams.wiring.application import StatefulParts, application, range_reader


def scoring_app(settings: Settings, pipeline: Pipeline) -> BatchApp:
    """The application that scores `P.events`."""
    parts = _ScoringParts(settings, pipeline)
    return application(settings, pipeline, parts, "score")


class _ScoringParts(StatefulParts):
    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        topics = pipeline.topics
        read = (topics.events, topics.models)
        written = (topics.predictions, topics.scored, topics.dead_letters)
        super().__init__(settings, pipeline, TopicWatch(settings, pipeline, read, written))
        self._champion = LedgerFollower(settings, pipeline)
        self._scorer = TritonEndpoints.of(settings, pipeline, self._known)
        trial = TritonEndpoints.of(settings, pipeline, self._known, repairing=False)
        trial.expect(self._on_trial)
        self._apart = _Apart(self._scorer, trial, self._champion)
        self._loads = TritonLoads(settings, pipeline.name)
        self._scoring: Scoring | None = None

    async def start(self) -> None:
        await super().start()
        await self._connected(self._champion.start)
        self._scorer.watch(lambda: self._champion.served)
        topics = self._pipeline.topics
        self._scoring = Scoring(
            self._pipeline,
            self._state,
            self._apart,
            self._champion,
            range_reader(self._settings),
            TopicPredictions(self._settings, topics.predictions, self._topics.id_of(topics.events)),
            GroupProgress(self._settings, self._pipeline),
        )

    def _known(self) -> Mapping[int, Manifest]:
        return self._champion.state.versions

    def _on_trial(self) -> tuple[int, ...]:
        beside = self._champion.beside
        return () if beside is None else (beside.version,)

    async def stop(self) -> None:
        await self._champion.stop()
        await self._apart.close()
        await self._loads.close()
        await super().stop()

    async def look(self) -> None:
        await self._loads.look()
        await super().look()

    def processor(self, partition: int) -> PartitionScoring:
        assert self._scoring is not None, "the application has not started"
        return self._scoring.partition(partition)


class _Apart:
    """`Scorer` that asks for other versions than the champion by connections of their own.

    One on trial that fails opens no circuit of the champion's.
    """

    def __init__(self, scorer: Scorer, trial: Scorer, champion: Champion) -> None:
        self._scorer = scorer
        self._trial = trial
        self._champion = champion

    async def infer(self, version: int, rows: Rows) -> NDArray[np.float32]:
        """As `Scorer.infer`."""
        beside = self._champion.beside
        on_trial = beside is not None and version == beside.version
        return await (self._trial if on_trial else self._scorer).infer(version, rows)

    async def close(self) -> None:
        """Release connections."""
        await self._scorer.close()
        await self._trial.close()
