"""The labeller's work on one partition: the join, its store, and the windows of labels.

The store on disk is never ahead of the committed offsets: changes are kept in memory until the
outputs are committed. A store that is behind - a crash in between, a partition that moved, a lost
disk - is brought up to date from the topics before the first batch.

Label windows are never ahead of the committed offsets either: which events and labels have met
depends on the order in which the two topics were read, but not once both were read up to the same
offsets. So the windows, too, are folded after a commit, and remember the pair of offsets.
"""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np
import structlog

from streams import telemetry
from streams.decoding import Rejected
from streams.errors import StateBehind
from streams.folding import ReadRange
from streams.joining import Delta, Join
from streams.ports import FeatureState, LabelBatch, LabelsFolded, LabelStore
from streams.records import Scored, decoder
from streams.retrying import until_available
from streams.scoring import dead_letter
from streams.spec import Pipeline
from streams.transport.batches import MicroBatch, Outputs, Record

log = structlog.get_logger(__name__)

_MET = "met"
"""Fence of the folds: the sum of the two topics' offsets, which grows with every commit."""
_NOTE = struct.Struct("<QQ")
"""The two offsets themselves, kept beside the fence: one without the other would say nothing."""
_MARK_EVERY = 10_000
"""After so many records the fence moves even if no label has met an event."""
_IN_USE = 10.0
"""Seconds to wait for a store that another process has open: who had the partition, a standby."""

_decode_scored = decoder(Scored).decode

T = TypeVar("T")


class Labelling:
    """Joins one partition's `P.scored` and `P.feedback` into `P.examples`."""

    def __init__(self, pipeline: Pipeline, partition: int, open_store: Callable[[], LabelStore],
                 state: FeatureState, read_range: ReadRange) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._partition = partition
        self._open_store = open_store
        self._state = state
        self._read_range = read_range
        self._opened: tuple[LabelStore, Join] | None = None
        self._unfolded: list[Delta] = []
        self._marked = 0

    async def open(self, committed: Mapping[str, int | None]) -> None:
        """Open the store, and bring it and the label windows up to the committed offsets.

        Raises:
            Busy: another process has the store, for ten seconds already.
        """

        async def open_store() -> LabelStore:
            return self._open_store()

        deadline = time.monotonic() + _IN_USE
        store = await until_available(self._pipeline.name, "open", open_store, deadline)
        self._opened = store, Join(self._pipeline, store)
        ends = {topic: committed.get(topic) or 0 for topic in self._topics}
        folded = await self._folded() if self._pipeline.plan.label_keys else ends
        for topic in self._topics:
            async for _ in self._missed(topic, min(folded[topic], ends[topic])):
                self._join.commit()
        # labels that met their events after this point are in no window yet
        self._unfolded = await self._lost(folded)
        for topic in self._topics:
            async for deltas in self._missed(topic, ends[topic]):
                self._unfolded += deltas
        self._join.positions.update(ends)
        await self.commit()

    async def process(self, batch: MicroBatch) -> Outputs:
        """Examples, and dead letters for bad feedback, of a micro-batch of either topic."""
        topics, name = self._pipeline.topics, self._pipeline.name
        telemetry.EVENTS.labels(name, str(self._partition)).inc(len(batch.records))
        examples: list[Record] = []
        rejected: list[Rejected] = []
        with telemetry.STAGE_SECONDS.labels(name, "join").time():
            if batch.topic == topics.scored:
                deltas = self._join.served(batch.records)
                examples = self._join.matured()
            else:
                deltas, examples, rejected = self._join.labelled(batch.records)
        self._unfolded += deltas
        self._join.positions[batch.topic] = batch.next
        self._observe(examples, rejected)
        letters = [dead_letter(*one) for one in rejected]
        return {topics.examples: examples, topics.dead_letters: letters}

    async def commit(self) -> None:
        """Outputs are committed: fold the labels they stand for, and write all that to disk."""
        await self._fold()
        self._join.commit()

    async def close(self) -> None:
        """Drop what is uncommitted and release the disk."""
        if self._opened is not None:
            self._store.close()

    @property
    def _store(self) -> LabelStore:
        assert self._opened is not None, "the labeller was not opened"
        return self._opened[0]

    @property
    def _join(self) -> Join:
        assert self._opened is not None, "the labeller was not opened"
        return self._opened[1]

    @property
    def _topics(self) -> tuple[str, str]:
        return self._pipeline.topics.scored, self._pipeline.topics.feedback

    def _observe(self, examples: list[Record], rejected: list[Rejected]) -> None:
        name = self._pipeline.name
        telemetry.EXAMPLES.labels(name).inc(len(examples))
        for outcome, labels in self._join.outcomes().items():
            telemetry.LABELS.labels(name, outcome).inc(labels)
        for _, error in rejected:
            telemetry.DEAD_LETTERS.labels(name, error.cause).inc()

    async def _missed(self, topic: str, end: int) -> AsyncIterator[list[Delta]]:
        """Join what the store has not seen of a topic; what came out of it was written before."""
        first = self._join.positions.get(topic, 0)
        if first >= end:
            return
        log.info("label store is behind, reading", topic=topic, first=first, end=end)
        async for records in self._read_range(topic, self._partition, first, end):
            yield self._join.replay(topic, records)
        self._join.positions[topic] = end

    async def _lost(self, folded: Mapping[str, int]) -> list[Delta]:
        """Labels that the store has and the windows have not: Redis lost its last second."""
        feedback = self._pipeline.topics.feedback
        reached, deltas = self._store.positions, list[Delta]()
        for topic in self._topics:
            first, end = folded[topic], reached.get(topic, 0)
            if first >= end:
                continue
            async for records in self._read_range(topic, self._partition, first, end):
                if topic == feedback:
                    deltas += self._join.known(records, lambda r, label: label[0] == r.offset)
                else:
                    deltas += self._join.known(records, lambda _, at: at[0] < folded[feedback])
        return deltas

    async def _fold(self) -> None:
        """Add labels to the entities' windows, once, and remember up to which offsets."""
        reached = {topic: self._join.positions.get(topic, 0) for topic in self._topics}
        total = sum(reached.values())
        if not self._pipeline.plan.label_keys:
            self._unfolded.clear()
        elif self._unfolded or total >= self._marked + _MARK_EVERY:
            folded = await self._fold_after_lost(reached)
            telemetry.LABELS.labels(self._pipeline.name, "window_late").inc(folded.late)
            telemetry.LABELS.labels(self._pipeline.name, "window_expired").inc(folded.expired)
            self._unfolded.clear()
            self._marked = total

    async def _fold_after_lost(self, reached: Mapping[str, int]) -> LabelsFolded:
        """Fold; windows that have lost their latest labels meanwhile get them back with it."""
        lost: list[Delta] = []
        while True:
            batch = self._batch([*lost, *self._unfolded], reached)
            try:
                return await self._until_available(partial(self._state.fold_labels, batch))
            except StateBehind as behind:
                log.warning("label windows are behind, folding again", partition=self._partition,
                            folded=behind.folded, expected=batch.first)  # fmt: skip
                lost = await self._lost(await self._folded())

    def _batch(self, deltas: list[Delta], reached: Mapping[str, int]) -> LabelBatch:
        """Labels that met their events before these offsets, which are noted with them."""
        scored = [_decode_scored(delta.served.payload) for delta in deltas]
        plans, total = len(self._pipeline.plan.label_keys), sum(reached.values())
        return LabelBatch(
            partition=self._partition,
            next=total,
            offsets=np.full(len(deltas), total - 1, np.int64),
            times=np.array([served.event_time for served in scored]).astype(np.uint32),
            entities=[[served.entities[i].encode() for served in scored] for i in range(plans)],
            deltas=np.array([delta.change for delta in deltas], np.float64),
            stream=_MET,
            first=self._marked,
            note=_NOTE.pack(*(reached[topic] for topic in self._topics)),
        )

    async def _folded(self) -> dict[str, int]:
        """The offsets up to which labels that have met their events are in the windows."""
        read = partial(self._state.label_note, self._partition, _MET)
        note = await self._until_available(read)
        marks = _NOTE.unpack(note) if note else (0, 0)
        self._marked = sum(marks)
        return dict(zip(self._topics, marks, strict=True))

    async def _until_available(self, call: Callable[[], Awaitable[T]]) -> T:
        return await until_available(self._pipeline.name, "fold", call)
