"""History through scoring and labelling: a block at a time, partitions side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from streams.adapters.memory.scorer import FixedChampion, MemoryScorer
from streams.backfill.planning import Block, LabelRun, Planner
from streams.backfill.records import HistoryRecord
from streams.errors import DriftloopError
from streams.labelling.processor import Labelling
from streams.ports.batches import (
    NO_HEADERS,
    MicroBatch,
    OutputRecord,
    Outputs,
    SourceRecord,
)
from streams.ports.features import FeatureState
from streams.ports.labels import LabelStore, ServedEvent
from streams.scoring.decoding import Decoder
from streams.scoring.partition import PartitionScoring
from streams.scoring.processor import Scoring
from streams.spec import Pipeline

_BATCH = 2048
"""Most events of a micro-batch, as a scoring worker takes them."""


class HistoryTopics(Protocol):
    """Where history is written."""

    async def write(self, topic: str, partition: int, records: list[OutputRecord]) -> int:
        """Add records to a partition; returns the offset of the first."""
        ...


class _Parts(NamedTuple):
    scoring: PartitionScoring
    labelling: Labelling


class Replay:
    """Brings history into the feature state, the label stores and the topics.

    Nobody was served: the fallback's score stands in `P.scored`, and nothing in `P.predictions`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        state: FeatureState,
        open_store: Callable[[int], LabelStore],
        topics: HistoryTopics,
        partitions: int,
        topic_ids: str = "",
    ) -> None:
        threshold = 0.5 if pipeline.decision.threshold is None else pipeline.decision.threshold
        nobody = MemoryScorer({}, pipeline.model.outputs)
        self._topics = pipeline.topics
        self._scoring = Scoring(pipeline, state, nobody, FixedChampion(0, threshold), _lost)
        self._parts = {
            number: _Parts(
                self._scoring.partition(number),
                Labelling(pipeline, number, partial(open_store, number), state, _lost, topic_ids),
            )
            for number in range(partitions)
        }
        self._written = topics
        self._planner = Planner(pipeline, Decoder(pipeline), self._served)

    async def open(self) -> None:
        """Begin with a feature state and label stores that are empty."""
        for scoring, labelling in self._parts.values():
            await scoring.open({})
            await labelling.open({})

    async def take(self, chunk: Sequence[HistoryRecord]) -> None:
        """Work off consecutive records of history."""
        for block in self._planner.blocks(chunk):
            await self._take(block)

    async def close(self) -> None:
        """Release the label stores."""
        for _, labelling in self._parts.values():
            await labelling.close()

    def _served(
        self, partition: int, labels: Sequence[SourceRecord]
    ) -> Sequence[ServedEvent | None]:
        return self._parts[partition].labelling.served(labels)

    async def _take(self, block: Block) -> None:
        # partitions share entities: the labels of all of them come first
        await asyncio.gather(*(self._label(at, runs) for at, runs in block.labels.items()))
        await asyncio.gather(*(self._score(at, events) for at, events in block.events.items()))

    async def _label(self, partition: int, runs: Sequence[LabelRun]) -> None:
        labelling = self._parts[partition].labelling
        for watermark, labels in runs:
            if watermark is not None:
                await self._write(partition, labelling.advance(watermark))
            await self._write(partition, {self._topics.feedback: _plain(labels)})
            await self._write(partition, await labelling.process(_batch(labels)))
        await labelling.commit()

    async def _score(self, partition: int, events: Sequence[SourceRecord]) -> None:
        scoring, labelling = self._parts[partition]
        for start in range(0, len(events), _BATCH):
            some = events[start : start + _BATCH]
            batch = _batch(some)
            await self._write(partition, {self._topics.events: _plain(some)})
            [outputs] = await self._scoring.score([(scoring, batch)])
            if isinstance(outputs, Exception):
                raise outputs
            served = outputs.pop(self._topics.scored)
            await self._write(
                partition,
                {self._topics.dead_letters: outputs[self._topics.dead_letters]},
            )
            if not served:
                continue
            first = await self._written.write(self._topics.scored, partition, served)
            written = some[0].timestamp
            records = [
                _Served(self._topics.scored, partition, first + i, written, key, value)
                for i, (key, value, _) in enumerate(served)
            ]
            await self._write(partition, await labelling.process(_batch(records)))
        await labelling.commit()

    async def _write(self, partition: int, outputs: Outputs) -> None:
        for topic, records in outputs.items():
            assert isinstance(topic, str), "all records of a key are in one partition"
            if records:
                await self._written.write(topic, partition, records)


class _Served(NamedTuple):
    """A record of `P.scored`, as a labeller reads it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def _batch(records: Sequence[SourceRecord]) -> MicroBatch:
    first = records[0]
    return MicroBatch(first.topic, first.partition, list(records), first.offset, first.offset)


def _plain(records: Sequence[SourceRecord]) -> list[OutputRecord]:
    return [(record.key, record.value, NO_HEADERS) for record in records]


async def _lost(
    topic: str, partition: int, first: int, end: int
) -> AsyncIterator[list[SourceRecord]]:
    """What streaming would read again. Raises `DriftloopError`: history is begun again."""
    raise DriftloopError(
        f"what was folded of partition {partition} is gone from Redis - run the backfill again: it "
        f"goes on with the same topics ({topic} from {first} to {end})"
    )
    yield
