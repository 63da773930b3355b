"""The online path over one micro-batch: decode, fold, infer, decide, and what to write.

Reads as one straight story: `Scoring.process`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
import structlog
from aiokafka import ConsumerRecord
from numpy.typing import NDArray

from streams import telemetry
from streams.decoding import Decoded, Decoder, Rejected
from streams.errors import BadRecord, StateBehind
from streams.inference import Champion, Inference, Scores
from streams.invalid import InvalidBreaker
from streams.ports import FeatureState, FoldBatch, Folded, Scorer
from streams.records import Prediction, Scored, encode, pack
from streams.retrying import until_available
from streams.spec import Pipeline
from streams.spec.features import Block
from streams.spec.windows import entity_names, entity_texts
from streams.transport.batches import NO_HEADERS, MicroBatch, Outputs, Record

log = structlog.get_logger(__name__)

T = TypeVar("T")

ATTEMPT = "attempt"
"""Header of a replayed record: how many times it has been replayed."""

ReadRange = Callable[[str, int, int, int], AsyncIterator[list[ConsumerRecord]]]
"""(topic, partition, first, end) -> the records of that range, in lists."""


class Scoring:
    """Scores one partition's micro-batches."""

    def __init__(self, pipeline: Pipeline, partition: int, state: FeatureState, scorer: Scorer,
                 champion: Champion, read_range: ReadRange) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._partition = partition
        self._state = state
        self._inference = Inference(pipeline, scorer, champion)
        self._read_range = read_range
        self._decoder = Decoder(pipeline)
        self._breaker = InvalidBreaker(pipeline, partition)
        self._stateful = any(plan.kept for plan in pipeline.plan.keys)

    async def open(self, committed: Mapping[str, int | None]) -> None:
        """Refold what the feature state has lost of the committed events.

        State that is ahead of the committed offset (a crash between fold and commit) needs
        nothing: a repeated fold returns its first answer.
        """
        end = committed.get(self._pipeline.topics.events)
        if end is not None and self._stateful:
            await self._refold(end, end)

    async def _refold(self, end: int, committed: int) -> None:
        """Bring state that is behind up to `end`; answers from `committed` on are kept."""
        topic = self._pipeline.topics.events
        folded = await self._until_available("fold", lambda: self._state.position(self._partition))
        position = folded or 0
        if position >= end:
            return
        log.warning("feature state is behind, refolding", partition=self._partition,
                    folded=position, expected=end)  # fmt: skip
        async for records in self._read_range(topic, self._partition, position, end):
            kept = min(position, committed)
            batch = MicroBatch(topic, self._partition, records, position, kept)
            await self._fold(batch, self._stateless(self._decoder.decode(records))[0])
            position = batch.next
        await self._until_available("fold", lambda: self._state.reposition(self._partition, end))

    async def process(self, batch: MicroBatch) -> Outputs:
        """Predictions, what was served, and dead letters of a micro-batch."""
        name = self._pipeline.name
        telemetry.EVENTS.labels(name, str(self._partition)).inc(len(batch.records))
        with self._stage("decode"):
            decoded, stateless = self._stateless(self._decoder.decode(batch.records))
        rejected = decoded.rejected
        self._breaker.observe(
            len(batch.records), len(rejected), str(rejected[0][1]) if rejected else ""
        )
        with self._stage("fold"):
            folded = await self._fold_in_order(batch, decoded)
        decoded, vectors = self._vectors(decoded, stateless, folded)
        with self._stage("infer"):
            served = await self._inference.scores(vectors, batch.received)
        self._observe(decoded, folded, served.version)
        return self._outputs(decoded, vectors, served)

    async def commit(self) -> None:
        """Nothing is remembered between micro-batches."""

    async def close(self) -> None:
        """Nothing was opened."""

    def _stateless(self, decoded: Decoded) -> tuple[Decoded, dict[int, Block]]:
        """Features without state; rejects events on which one fails, before they are counted."""
        try:
            return decoded, self._pipeline.stateless(decoded.columns)
        except Exception as error:
            log.warning("a feature failed, looking for the event", error=repr(error))
        keep = np.ones(len(decoded.ids), bool)
        rejected: list[Rejected] = []
        for i, record in enumerate(decoded.records):
            try:
                self._pipeline.stateless({k: c[i : i + 1] for k, c in decoded.columns.items()})
            except Exception as error:
                keep[i] = False
                rejected.append((record, BadRecord("feature", repr(error))))
        decoded = decoded.select(keep, rejected)
        return decoded, self._pipeline.stateless(decoded.columns)

    async def _fold_in_order(self, batch: MicroBatch, decoded: Decoded) -> Folded:
        """Fold; a state that has lost its latest events meanwhile gets them back first."""
        while True:
            try:
                return await self._fold(batch, decoded)
            except StateBehind:
                await self._refold(batch.first, batch.committed)

    async def _fold(self, batch: MicroBatch, decoded: Decoded) -> Folded:
        plan, n = self._pipeline.plan, len(decoded.ids)
        if not self._stateful:
            return Folded(np.empty((n, plan.width)), np.zeros(n, np.bool_))
        values = [decoded.columns[value] for value in plan.values]
        request = FoldBatch(
            partition=self._partition,
            first=batch.first,
            next=batch.next,
            offsets=np.array([record.offset for record in decoded.records], np.int64),
            ids=decoded.hashes(),
            times=decoded.times.astype(np.uint32),
            entities=[entity_names(decoded.columns[key.key]) for key in plan.keys],
            values=np.stack(values, 1) if values else np.empty((n, 0)),
            committed=batch.committed,
        )
        return await self._until_available("fold", lambda: self._state.fold(request))

    def _vectors(
        self, decoded: Decoded, stateless: dict[int, Block], folded: Folded
    ) -> tuple[Decoded, NDArray[np.float32]]:
        """The vectors of events that are new, and finite; the others leave the batch here."""
        vectors = self._pipeline.vectors(stateless, folded.aggregates)
        finite = np.isfinite(vectors).all(axis=1)
        rejected = [
            (decoded.records[i], BadRecord("not-finite", "a feature is not a finite number"))
            for i in np.flatnonzero(~finite & ~folded.duplicate).tolist()
        ]
        keep = finite & ~folded.duplicate
        if keep.all():
            return decoded, vectors
        return decoded.select(keep, rejected), vectors[keep]

    def _outputs(
        self,
        decoded: Decoded,
        vectors: NDArray[np.float32],
        served: Scores,
    ) -> Outputs:
        topics, version = self._pipeline.topics, served.version
        listed = served.scores.tolist()
        if served.scores.shape[1] == 1:
            listed = [score for (score,) in listed]
        keys = [record.key for record in decoded.records]
        times = decoded.times.tolist()
        decisions = self._decide(served.scores, served.threshold)
        identities = [f"{self._partition}-{record.offset}" for record in decoded.records]
        predictions: list[Record] = [
            (key, encode(Prediction(event_id, at, score, decision, version, served.degraded, name)),
             NO_HEADERS)
            for key, event_id, at, score, decision, name in zip(
                keys, decoded.ids, times, listed, decisions, identities, strict=True
            )
        ]  # fmt: skip
        scored: list[Record] = [
            (key, encode(Scored(event_id, at, entities, vector, score, version)), NO_HEADERS)
            for key, event_id, at, entities, vector, score in zip(
                keys, decoded.ids, times, self._label_entities(decoded), pack(vectors), listed,
                strict=True,
            )
        ]  # fmt: skip
        return {
            topics.predictions: predictions,
            topics.scored: scored,
            topics.dead_letters: [dead_letter(*rejected) for rejected in decoded.rejected],
        }

    def _label_entities(self, decoded: Decoded) -> list[list[str]]:
        """For each event the names of the entities that take its label, in the plan's order."""
        keys = self._pipeline.plan.label_keys
        columns = [entity_texts(decoded.columns[key]) for key in keys]
        return list(map(list, zip(*columns, strict=True))) if columns else [[]] * len(decoded.ids)

    def _decide(self, scores: NDArray[np.float32], threshold: float) -> list[str]:
        classes = self._pipeline.decision.classes
        if scores.shape[1] == 1:
            chosen = (scores[:, 0] >= threshold).astype(int)
        else:
            chosen = scores.argmax(axis=1)
        return [classes[i] for i in chosen.tolist()]

    def _observe(self, decoded: Decoded, folded: Folded, version: int) -> None:
        name, partition = self._pipeline.name, str(self._partition)
        telemetry.PREDICTIONS.labels(name, partition, str(version)).inc(len(decoded.ids))
        telemetry.DUPLICATES.labels(name).inc(int(folded.duplicate.sum()))
        for _, error in decoded.rejected:
            telemetry.DEAD_LETTERS.labels(name, error.cause).inc()
        if len(decoded.times):
            telemetry.EVENT_TIME.labels(name, partition).set(float(decoded.times.max()))

    def _stage(self, stage: str) -> AbstractContextManager[Any]:
        timer: AbstractContextManager[Any]
        timer = telemetry.STAGE_SECONDS.labels(self._pipeline.name, stage).time()
        return timer

    async def _until_available(self, stage: str, call: Callable[[], Awaitable[T]]) -> T:
        return await until_available(self._pipeline.name, stage, call)


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
