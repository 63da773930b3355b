"""The online path over micro-batches: decode, fold, infer, decide, and what to write.

Reads as one straight story: `Scoring.score`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Any

import numpy as np
import structlog

from streams import telemetry
from streams.aio.coalescing import Coalescer
from streams.breaker import InvalidBreaker
from streams.dead_letters import Rejected, dead_letter
from streams.errors import BadRecord, DriftloopError
from streams.ports.batches import (
    MicroBatch,
    OutputRecord,
    Outputs,
    PastPredictions,
    Progress,
    ReadRange,
)
from streams.ports.features import FeatureState, Folded, concatenate
from streams.ports.models import Champion, Scorer
from streams.scoring.decoded import Decoded
from streams.scoring.decoding import Decoder
from streams.scoring.folding import Duplicates, Folding, HotEntities
from streams.scoring.folds import fold_batches
from streams.scoring.inference import Inference
from streams.scoring.outputs import written
from streams.scoring.partition import JointScoring, PartitionScoring
from streams.scoring.restoration import Restoration
from streams.scoring.served import ServedScores
from streams.spec import Pipeline
from streams.spec.layout import Rows, features_of

log = structlog.get_logger(__name__)

_JOINT_RECORDS = 1024
"""Most records of several partitions that are scored as one; larger batches gain nothing."""
_AT_ONCE = 2
"""Joint micro-batches under way: one is in Python while the other waits for a server."""


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
        predictions: PastPredictions | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Without `predictions` offsets alone name events, and none was predicted before.

        Without `progress` there is one partition, and nothing else that the state may have lost.
        """
        self._pipeline = pipeline
        self._state = state
        self._predictions = predictions
        self._prefix = predictions.prefix if predictions else ""
        self._inference = Inference(pipeline, scorer, champion)
        self._decoder = Decoder(pipeline)
        self._restoration = Restoration(pipeline, state, self._decoder, read_range, progress)
        self._duplicates = Duplicates(pipeline)
        self._hot = HotEntities(pipeline)
        self._joint: JointScoring = Coalescer(
            self.score,
            at_once=_AT_ONCE,
            most=_JOINT_RECORDS,
            weigh=lambda request: len(request[1].records),
        )

    def partition(self, number: int) -> PartitionScoring:
        """The processor of a partition that is assigned to this worker."""
        folding = Folding(self._pipeline, number, self._state, self._restoration)
        breaker = InvalidBreaker(self._pipeline, self._pipeline.topics.events, number)
        return PartitionScoring(self._joint, folding, breaker, self._predictions)

    @property
    def halved(self) -> str:
        """What failed on several events at once and on none of them alone; empty for nothing."""
        return self._decoder.halved

    async def score(
        self, requests: Sequence[tuple[PartitionScoring, MicroBatch]]
    ) -> list[Outputs | Exception]:
        """Predictions, what was served, and dead letters of one micro-batch per partition.

        An error that nobody foresaw is its own micro-batch's affair, and there the affair of the
        records that bring it about.
        """
        try:
            return list(await self._score(requests))
        except DriftloopError:
            raise
        except Exception as error:
            if len(requests) == 1:
                return [await self._quarantine(*requests[0], error)]
        return await asyncio.gather(*map(self._alone, requests))

    async def _alone(self, request: tuple[PartitionScoring, MicroBatch]) -> Outputs | Exception:
        try:
            return (await self.score([request]))[0]
        except Exception as error:  # its partition's, whose lane raises it
            return error

    async def _score(
        self, requests: Sequence[tuple[PartitionScoring, MicroBatch]]
    ) -> list[Outputs]:
        parts, batches = zip(*requests, strict=True)
        with self._stage("decode"):
            decoded = self._decoder.decode([r for batch in batches for r in batch.records])
        with self._stage("fold"):
            folded = await self._fold(parts, batches, decoded)
        self._hot.observe(decoded, folded)
        repeated = [decoded.ids[i] for i in np.flatnonzero(folded.duplicate).tolist()]
        decoded, rows = self._rows(decoded, folded)
        sizes = _sizes(batches, decoded)
        with self._stage("infer"):
            received = min(batch.received for batch in batches)
            served = await self._inference.score(rows, decoded.keys, sizes, received)
        decoded, rows, served = _answered(decoded, rows, served)
        records = written(self._pipeline, decoded, rows, served, self._prefix)
        outputs = self._outputs(batches, *records, decoded)
        self._observe(parts, batches, decoded, served)
        self._duplicates.observe(repeated)
        return outputs

    async def _quarantine(
        self, part: PartitionScoring, batch: MicroBatch, error: Exception
    ) -> Outputs:
        """The outputs of a micro-batch that fails: the records that do are found by halving.

        Raises the error where a micro-batch without records fails, too: no record is at fault.
        """
        records = batch.records
        if len(records) > 1:
            middle = len(records) // 2
            halves = (
                replace(batch, records=records[:middle]),
                replace(batch, records=records[middle:], first=int(records[middle - 1].offset) + 1),
            )
            found: Outputs = {}
            for half in halves:  # one after the other, as the feature state needs them
                [outputs] = await self.score([(part, half)])
                if isinstance(outputs, Exception):
                    raise outputs
                found = {topic: found.get(topic, []) + made for topic, made in outputs.items()}
            return found
        await self._check_without(part, batch, error)
        [record] = records
        bad = BadRecord("failed", f"{type(error).__name__}: {error}")
        log.error(
            "a record could not be processed, setting it aside",
            partition=record.partition,
            offset=record.offset,
            exc_info=error,
        )
        decoded = replace(self._decoder.decode([]), rejected=[(record, bad)])
        nothing = ServedScores.of(np.empty((0, 1), np.float32), 0, 0.0)
        self._observe([part], [batch], decoded, nothing)
        return self._outputs([batch], [], [], decoded)[0]

    async def _check_without(
        self, part: PartitionScoring, batch: MicroBatch, error: Exception
    ) -> None:
        """Take the batch's place without its record: fold nothing, and score a row of zeros."""
        nothing = self._decoder.decode([])
        zeros = self._pipeline.layout.zeros(1)
        try:
            await self._fold([part], [batch], nothing)
            await self._inference.score(zeros, lambda: [b""], [1], batch.received)
        except DriftloopError:
            raise
        except Exception:
            raise error from None

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

    def _rows(self, decoded: Decoded, folded: Folded) -> tuple[Decoded, Rows]:
        """The rows of events that are new, and finite; the others leave the batch here.

        An event is finite before it is folded (`decoding`); what older state holds may not be.
        """
        rows = self._pipeline.rows(decoded.features, decoded.inputs, folded.aggregates)
        finite = np.isfinite(features_of(rows)).all(axis=1)
        keep = finite & ~folded.duplicate
        if keep.all():
            return decoded, rows
        rejected = [
            (decoded.records[i], BadRecord("not-finite", "a feature is not a finite number"))
            for i in np.flatnonzero(~finite & ~folded.duplicate).tolist()
        ]
        return decoded.select(keep, rejected), rows[keep]

    def _outputs(
        self,
        batches: Sequence[MicroBatch],
        predictions: list[OutputRecord],
        scored: list[OutputRecord],
        decoded: Decoded,
    ) -> list[Outputs]:
        """Split the records that were made together by micro-batch."""
        topics = self._pipeline.topics
        bounds = pairwise([0, *accumulate(_sizes(batches, decoded))])
        return [
            {
                topics.predictions: predictions[first:end],
                topics.scored: scored[first:end],
                topics.dead_letters: [dead_letter(*one) for one in rejected],
            }
            for (first, end), rejected in zip(bounds, _rejected(batches, decoded), strict=True)
        ]

    def _observe(
        self,
        parts: Sequence[PartitionScoring],
        batches: Sequence[MicroBatch],
        decoded: Decoded,
        served: ServedScores,
    ) -> None:
        """Count what is about to be written. Raises `TooManyInvalid`, before anything is."""
        name = self._pipeline.name
        for part, batch, bad in zip(parts, batches, _rejected(batches, decoded), strict=True):
            telemetry.EVENTS.labels(name, str(batch.partition)).inc(len(batch.records))
            part.breaker.observe(len(batch.records), [error for _, error in bad])
        for _, error in decoded.rejected:
            telemetry.DEAD_LETTERS.labels(name, error.cause).inc()
        for version, events in zip(*np.unique(served.versions, return_counts=True), strict=True):
            telemetry.PREDICTIONS.labels(name, str(version)).inc(events)
        if len(decoded.times):
            telemetry.EVENT_TIME.labels(name).set(float(decoded.times.max()))

    def _stage(self, stage: str) -> AbstractContextManager[Any]:
        timer: AbstractContextManager[Any]
        timer = telemetry.STAGE_SECONDS.labels(self._pipeline.name, stage).time()
        return timer


def _answered(
    decoded: Decoded, rows: Rows, served: ServedScores
) -> tuple[Decoded, Rows, ServedScores]:
    """The events that the model has answered; those on which it errs leave the batch here."""
    finite = np.asarray(np.isfinite(served.scores).all(axis=1))
    if finite.all():
        return decoded, rows, served
    rejected = [
        (
            decoded.records[i],
            BadRecord("model", f"version {served.versions[i]} gives no finite score for the event"),
        )
        for i in np.flatnonzero(~finite).tolist()
    ]
    return decoded.select(finite, rejected), rows[finite], served.select(finite)


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
