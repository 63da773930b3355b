"""The online path over micro-batches: decode, fold, infer, decide, and what to write.

Reads as one straight story: `Scoring.score`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams import telemetry
from streams.aio.coalescing import Coalescer
from streams.dead_letters import Rejected, dead_letter
from streams.errors import BadRecord
from streams.ports.batches import (
    NO_HEADERS,
    MicroBatch,
    OutputRecord,
    Outputs,
    ReadRange,
)
from streams.ports.features import FeatureState, Folded, concatenate
from streams.ports.models import Champion, Scorer
from streams.records import Prediction, Scored, encode, pack
from streams.scoring.breaker import InvalidBreaker
from streams.scoring.decoding import Decoded, Decoder
from streams.scoring.folding import Folding, fold_batches
from streams.scoring.inference import Inference, ServedScores
from streams.spec import Pipeline
from streams.spec.windows import entity_texts

_JOINT_RECORDS = 1024
"""Most records of several partitions that are scored as one; larger batches gain nothing."""
_AT_ONCE = 2
"""Joint micro-batches under way: one is in Python while the other waits for a server."""


class PartitionScoring:
    """The processor of one partition: its micro-batches are scored together with its siblings'."""

    def __init__(self, joint: JointScoring, folding: Folding, breaker: InvalidBreaker) -> None:
        self._joint = joint
        self.folding = folding
        self.breaker = breaker

    async def open(self, committed: Mapping[str, int | None]) -> None:
        """Bring the feature state in line with the committed offsets."""
        await self.folding.open(committed)

    async def process(self, batch: MicroBatch) -> Outputs:
        """As `Scoring.score`, for one micro-batch."""
        return await self._joint.ask((self, batch))

    async def commit(self) -> None:
        """Nothing is remembered between micro-batches."""

    async def close(self) -> None:
        """Nothing was opened."""


JointScoring = Coalescer[tuple[PartitionScoring, MicroBatch], Outputs]


class Scoring:
    """Scores the micro-batches of a worker's partitions.

    A small micro-batch costs hardly less than a larger one. So those that partitions bring at the
    same moment, or while others are being scored, are decoded, scored and encoded as one.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        state: FeatureState,
        scorer: Scorer,
        champion: Champion,
        read_range: ReadRange,
    ) -> None:
        self._pipeline = pipeline
        self._state = state
        self._read_range = read_range
        self._inference = Inference(pipeline, scorer, champion)
        self._decoder = Decoder(pipeline)
        self._joint: JointScoring = Coalescer(
            self.score,
            at_once=_AT_ONCE,
            most=_JOINT_RECORDS,
            weigh=lambda request: len(request[1].records),
        )

    def partition(self, number: int) -> PartitionScoring:
        """The processor of a partition that is assigned to this worker."""
        folding = Folding(self._pipeline, number, self._state, self._decoder, self._read_range)
        return PartitionScoring(self._joint, folding, InvalidBreaker(self._pipeline, number))

    async def score(self, requests: Sequence[tuple[PartitionScoring, MicroBatch]]) -> list[Outputs]:
        """Predictions, what was served, and dead letters of one micro-batch per partition."""
        parts, batches = zip(*requests, strict=True)
        with self._stage("decode"):
            decoded = self._decoder.decode([r for batch in batches for r in batch.records])
        self._observe_read(parts, batches, decoded)
        with self._stage("fold"):
            folded = await self._fold(parts, batches, decoded)
        decoded, vectors = self._vectors(decoded, folded)
        sizes = _sizes(batches, decoded)
        with self._stage("infer"):
            received = min(batch.received for batch in batches)
            served = await self._inference.score(vectors, sizes, received)
        self._observe_served(decoded, folded, served)
        predictions, scored = self._records(decoded, vectors, served)
        return self._outputs(batches, sizes, predictions, scored, decoded)

    def _observe_read(
        self,
        parts: Sequence[PartitionScoring],
        batches: Sequence[MicroBatch],
        decoded: Decoded,
    ) -> None:
        name = self._pipeline.name
        for part, batch, bad in zip(parts, batches, _rejected(batches, decoded), strict=True):
            telemetry.EVENTS.labels(name, str(batch.partition)).inc(len(batch.records))
            part.breaker.observe(len(batch.records), len(bad), str(bad[0][1]) if bad else "")

    async def _fold(
        self,
        parts: Sequence[PartitionScoring],
        batches: Sequence[MicroBatch],
        decoded: Decoded,
    ) -> Folded:
        """Fold each partition's events; calls that are made side by side share a round trip."""
        sizes = _sizes(batches, decoded)
        requests = fold_batches(self._pipeline.plan, batches, decoded, sizes)
        calls = [part.folding.fold(one) for part, one in zip(parts, requests, strict=True)]
        return await calls[0] if len(calls) == 1 else concatenate(await asyncio.gather(*calls))

    def _vectors(self, decoded: Decoded, folded: Folded) -> tuple[Decoded, NDArray[np.float32]]:
        """The vectors of events that are new, and finite; the others leave the batch here."""
        vectors = self._pipeline.vectors(decoded.features, folded.aggregates)
        finite = np.isfinite(vectors).all(axis=1)
        keep = finite & ~folded.duplicate
        if keep.all():
            return decoded, vectors
        rejected = [
            (decoded.records[i], BadRecord("not-finite", "a feature is not a finite number"))
            for i in np.flatnonzero(~finite & ~folded.duplicate).tolist()
        ]
        return decoded.select(keep, rejected), vectors[keep]

    def _outputs(
        self,
        batches: Sequence[MicroBatch],
        sizes: Sequence[int],
        predictions: list[OutputRecord],
        scored: list[OutputRecord],
        decoded: Decoded,
    ) -> list[Outputs]:
        """Split the records that were made together by micro-batch."""
        topics, bounds = self._pipeline.topics, pairwise([0, *accumulate(sizes)])
        return [
            {
                topics.predictions: predictions[first:end],
                topics.scored: scored[first:end],
                topics.dead_letters: [dead_letter(*one) for one in rejected],
            }
            for (first, end), rejected in zip(bounds, _rejected(batches, decoded), strict=True)
        ]

    def _records(
        self, decoded: Decoded, vectors: NDArray[np.float32], served: Sequence[ServedScores]
    ) -> tuple[list[OutputRecord], list[OutputRecord]]:
        """The prediction of each event, and what was served."""
        # of each event: score, decision, version and whether it is degraded
        answers = [answer for scores in served for answer in self._decided(scores)]
        keys = [record.key for record in decoded.records]
        identities = [f"{record.partition}-{record.offset}" for record in decoded.records]
        times, packed = decoded.times.tolist(), pack(vectors)
        predictions: list[OutputRecord] = [
            (
                key,
                encode(Prediction(event_id, at, score, decision, version, degraded, identity)),
                NO_HEADERS,
            )
            for key, event_id, at, (score, decision, version, degraded), identity in zip(
                keys, decoded.ids, times, answers, identities, strict=True
            )
        ]
        scored: list[OutputRecord] = [
            (key, encode(Scored(event_id, at, entities, vector, score, version)), NO_HEADERS)
            for key, event_id, at, entities, vector, (score, _, version, _) in zip(
                keys,
                decoded.ids,
                times,
                self._label_entities(decoded),
                packed,
                answers,
                strict=True,
            )
        ]
        return predictions, scored

    def _decided(self, served: ServedScores) -> list[tuple[float | list[float], str, int, bool]]:
        classes, scores = self._pipeline.decision.classes, served.scores
        if scores.shape[1] == 1:
            scores = scores[:, 0]
            chosen = (scores >= served.threshold).astype(int)
        else:
            chosen = scores.argmax(axis=1)
        version, degraded = served.version, served.degraded
        return [
            (score, classes[index], version, degraded)
            for score, index in zip(scores.tolist(), chosen.tolist(), strict=True)
        ]

    def _label_entities(self, decoded: Decoded) -> list[list[str]]:
        """For each event the names of the entities that take its label, in the plan's order."""
        keys = self._pipeline.plan.label_keys
        columns = [entity_texts(decoded.columns[key]) for key in keys]
        return list(map(list, zip(*columns, strict=True))) if columns else [[]] * len(decoded.ids)

    def _observe_served(
        self, decoded: Decoded, folded: Folded, served: Sequence[ServedScores]
    ) -> None:
        name = self._pipeline.name
        for scores in served:
            telemetry.PREDICTIONS.labels(name, str(scores.version)).inc(len(scores.scores))
        telemetry.DUPLICATES.labels(name).inc(int(folded.duplicate.sum()))
        for _, error in decoded.rejected:
            telemetry.DEAD_LETTERS.labels(name, error.cause).inc()
        if len(decoded.times):
            telemetry.EVENT_TIME.labels(name).set(float(decoded.times.max()))

    def _stage(self, stage: str) -> AbstractContextManager[Any]:
        timer: AbstractContextManager[Any]
        timer = telemetry.STAGE_SECONDS.labels(self._pipeline.name, stage).time()
        return timer


def _sizes(batches: Sequence[MicroBatch], decoded: Decoded) -> list[int]:
    """How many of the events are of each batch; they are in the batches' order."""
    if len(batches) == 1:
        return [len(decoded.ids)]
    counts = Counter(map(attrgetter("partition"), decoded.records))
    return [counts[batch.partition] for batch in batches]


def _rejected(batches: Sequence[MicroBatch], decoded: Decoded) -> list[list[Rejected]]:
    """The rejected records of each batch."""
    found: dict[int, list[Rejected]] = {batch.partition: [] for batch in batches}
    for one in decoded.rejected:
        found[one[0].partition].append(one)
    return list(found.values())
