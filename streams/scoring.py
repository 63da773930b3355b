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
from aiokafka import ConsumerRecord
from numpy.typing import NDArray

from streams import telemetry
from streams.decoding import Decoded, Decoder, Rejected
from streams.errors import BadRecord
from streams.folding import Folding, ReadRange, fold_batches
from streams.inference import Champion, Inference, Scores
from streams.invalid import InvalidBreaker
from streams.ports import FeatureState, Folded, Scorer, join
from streams.records import Prediction, Scored, encode, pack
from streams.spec import Pipeline
from streams.spec.windows import entity_texts
from streams.together import Together
from streams.transport.batches import NO_HEADERS, MicroBatch, Outputs, Record

ATTEMPT = "attempt"
"""Header of a replayed record: how many times it has been replayed."""

_JOINT_RECORDS = 1024
"""Most records of several partitions that are scored as one; larger batches gain nothing."""
_AT_ONCE = 2
"""So many such are under way: one in Python while the other waits for a server."""


class Scoring:
    """Scores the micro-batches of a worker's partitions.

    A small micro-batch costs hardly less than a larger one. So those that partitions bring at the
    same moment, or while others are being scored, are decoded, scored and encoded as one.
    """

    def __init__(self, pipeline: Pipeline, state: FeatureState, scorer: Scorer, champion: Champion,
                 read_range: ReadRange) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._state = state
        self._read_range = read_range
        self._inference = Inference(pipeline, scorer, champion)
        self._decoder = Decoder(pipeline)
        self._parts: dict[int, PartitionScoring] = {}
        self._together: Together[MicroBatch, Outputs] = Together(
            self.score,
            at_once=_AT_ONCE,
            most=_JOINT_RECORDS,
            weigh=lambda batch: len(batch.records),
        )

    def partition(self, number: int) -> PartitionScoring:
        """The processor of a partition that is assigned to this worker."""
        folding = Folding(self._pipeline, number, self._state, self._decoder, self._read_range)
        breaker = InvalidBreaker(self._pipeline, number)
        self._parts[number] = PartitionScoring(self._together, folding, breaker)
        return self._parts[number]

    async def score(self, batches: Sequence[MicroBatch]) -> list[Outputs]:
        """Predictions, what was served, and dead letters of one micro-batch per partition."""
        with self._stage("decode"):
            decoded = self._decoder.decode([r for batch in batches for r in batch.records])
        self._observe_read(batches, decoded)
        with self._stage("fold"):
            folded = await self._fold(batches, decoded)
        decoded, vectors = self._vectors(decoded, folded)
        sizes = _sizes(batches, decoded)
        with self._stage("infer"):
            received = min(batch.received for batch in batches)
            served = await self._inference.scores(vectors, sizes, received)
        self._observe_served(decoded, folded, served)
        predictions, scored = self._records(decoded, vectors, served)
        return self._outputs(batches, sizes, predictions, scored, decoded)

    def _observe_read(self, batches: Sequence[MicroBatch], decoded: Decoded) -> None:
        name = self._pipeline.name
        for batch, rejected in zip(batches, _rejected(batches, decoded), strict=True):
            telemetry.EVENTS.labels(name, str(batch.partition)).inc(len(batch.records))
            example = str(rejected[0][1]) if rejected else ""
            breaker = self._parts[batch.partition].breaker
            breaker.observe(len(batch.records), len(rejected), example)

    async def _fold(self, batches: Sequence[MicroBatch], decoded: Decoded) -> Folded:
        """Fold each partition's events; calls that are made side by side share a round trip."""
        sizes = _sizes(batches, decoded)
        requests = fold_batches(self._pipeline.plan, batches, decoded, sizes)
        calls = [self._parts[request.partition].folding.fold(request) for request in requests]
        return await calls[0] if len(calls) == 1 else join(await asyncio.gather(*calls))

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
        predictions: list[Record],
        scored: list[Record],
        decoded: Decoded,
    ) -> list[Outputs]:
        """To each batch its own, of all that was written together."""
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
        self, decoded: Decoded, vectors: NDArray[np.float32], served: Sequence[Scores]
    ) -> tuple[list[Record], list[Record]]:
        """The prediction of each event, and what was served."""
        # of each event: score, decision, version and whether it is degraded
        answers = [answer for scores in served for answer in self._decided(scores)]
        keys = [record.key for record in decoded.records]
        identities = [f"{record.partition}-{record.offset}" for record in decoded.records]
        times, packed = decoded.times.tolist(), pack(vectors)
        predictions: list[Record] = [
            (key, encode(Prediction(event_id, at, score, decision, version, degraded, identity)),
             NO_HEADERS)
            for key, event_id, at, (score, decision, version, degraded), identity in zip(
                keys, decoded.ids, times, answers, identities, strict=True
            )
        ]  # fmt: skip
        scored: list[Record] = [
            (key, encode(Scored(event_id, at, entities, vector, score, version)), NO_HEADERS)
            for key, event_id, at, entities, vector, (score, _, version, _) in zip(
                keys, decoded.ids, times, self._label_entities(decoded), packed, answers,
                strict=True,
            )
        ]  # fmt: skip
        return predictions, scored

    def _decided(self, served: Scores) -> list[tuple[float | list[float], str, int, bool]]:
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

    def _observe_served(self, decoded: Decoded, folded: Folded, served: Sequence[Scores]) -> None:
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


class PartitionScoring:
    """The processor of one partition: asks for its micro-batches together with its siblings."""

    def __init__(self, together: Together[MicroBatch, Outputs], folding: Folding,
                 breaker: InvalidBreaker) -> None:  # fmt: skip
        self._together = together
        self.folding = folding
        self.breaker = breaker

    async def open(self, committed: Mapping[str, int | None]) -> None:
        """Bring the feature state in line with the committed offsets."""
        await self.folding.open(committed)

    async def process(self, batch: MicroBatch) -> Outputs:
        """As `Scoring.score`, for one micro-batch."""
        return await self._together.ask(batch)

    async def commit(self) -> None:
        """Nothing is remembered between micro-batches."""

    async def close(self) -> None:
        """Nothing was opened."""


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


def dead_letter(record: ConsumerRecord, error: BadRecord) -> Record:
    """The record as it came, with its cause and its origin as headers.

    One that was replayed (`driftloop dlq replay`) keeps the count of its attempts.
    """
    headers = {
        "cause": error.cause,
        "detail": error.detail[:1000],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
    }
    written = [(name, text.encode()) for name, text in headers.items()]
    written += [header for header in record.headers if header[0] == ATTEMPT]
    return record.key, record.value, written
