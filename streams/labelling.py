"""The late-label join: what was served and what was fed back, in any order, become examples.

An event's example is written once, when its horizon has passed (by the event time of what was
served since), with the label known by then or what no label means; so examples come in the order
of event time, and immature negatives never become examples. A label that comes later, or changes,
writes a correction.

The store on disk is never ahead of the committed offsets: changes are kept in memory until the
outputs are committed. A store that is behind - a crash in between, a partition that moved, a lost
disk - is brought up to date from the topics before the first batch.

Label windows are never ahead of the committed offsets either: which events and labels have met
depends on the order in which the two topics were read, but not once both were read up to the same
offsets. So the windows, too, are folded after a commit, and remember the pair of offsets.
"""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import msgspec
import numpy as np
import structlog
from aiokafka import ConsumerRecord

from streams import telemetry
from streams.errors import BadRecord, StateBehind
from streams.folding import ReadRange
from streams.ports import Changes, FeatureState, Label, LabelBatch, LabelsFolded, LabelStore, Served
from streams.records import Example, FeedbackRecord, Scored, decoder, encode
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

_decode_scored = decoder(Scored).decode
_decode_feedback = decoder(FeedbackRecord).decode

T = TypeVar("T")


class _Named(msgspec.Struct):
    event_id: str


_decode_name = decoder(_Named).decode


@dataclass(frozen=True)
class Delta:
    """A change of an event's label, to be added to the windows of its entities."""

    served: Served
    change: float


class Labelling:
    """Joins one partition's `P.scored` and `P.feedback` into `P.examples`."""

    def __init__(self, pipeline: Pipeline, partition: int, store: LabelStore, state: FeatureState,
                 read_range: ReadRange) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._partition = partition
        self._store = store
        self._state = state
        self._read_range = read_range
        self._join = Join(pipeline, store)
        self._unfolded: list[Delta] = []
        self._marked = 0

    async def open(self, committed: Mapping[str, int | None]) -> None:
        """Bring the store and the label windows up to the committed offsets."""
        ends = {topic: committed.get(topic) or 0 for topic in self._topics}
        folded = await self._folded() if self._pipeline.plan.label_keys else ends
        for topic in self._topics:
            async for _ in self._missed(topic, min(folded[topic], ends[topic])):
                self._join.commit({})
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
        letters: list[Record] = []
        with telemetry.STAGE_SECONDS.labels(name, "join").time():
            if batch.topic == topics.scored:
                deltas = self._join.served(batch.records)
                examples = self._join.matured()
            else:
                deltas, examples, letters = self._join.labelled(batch.records)
        self._unfolded += deltas
        self._join.positions[batch.topic] = batch.next
        telemetry.EXAMPLES.labels(name).inc(len(examples))
        return {topics.examples: examples, topics.dead_letters: letters}

    async def commit(self) -> None:
        """Outputs are committed: fold the labels they stand for, and write all that to disk."""
        await self._fold()
        self._join.commit({})

    async def close(self) -> None:
        """Drop what is uncommitted and release the disk."""
        self._store.close()

    @property
    def _topics(self) -> tuple[str, str]:
        return self._pipeline.topics.scored, self._pipeline.topics.feedback

    async def _missed(self, topic: str, end: int) -> AsyncIterator[list[Delta]]:
        """Join what the store has not seen of a topic; what came out of it was written before."""
        first = self._join.positions.get(topic, 0)
        if first >= end:
            return
        log.info("label store is behind, reading", topic=topic, first=first, end=end)
        async for records in self._read_range(topic, self._partition, first, end):
            if topic == self._pipeline.topics.scored:
                deltas = self._join.served(records)
                self._join.matured()
            else:
                deltas, _, _ = self._join.labelled(records)
            self._join.positions[topic] = records[-1].offset + 1
            yield deltas
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


class Join:
    """The join itself: pure but for its store. Uncommitted changes lie over the store."""

    def __init__(self, pipeline: Pipeline, store: LabelStore) -> None:
        self._name = pipeline.name
        self._feedback = pipeline.feedback
        self._store = store
        self._served: dict[str, Served] = {}
        self._early: dict[str, tuple[Label, ...]] = {}
        self._watermark = store.watermark
        self._expired = -math.inf
        self.positions = store.positions

    def served(self, records: Iterable[ConsumerRecord]) -> list[Delta]:
        """Take in what was served; returns the labels that had come before it."""
        entries = []
        for record in records:
            scored = _decode_scored(record.value)
            entries.append(Served(scored.event_id, record.key, scored.event_time, record.value))
        self._watermark = max([self._watermark, *(entry.event_time for entry in entries)])
        ids = [entry.event_id for entry in entries]
        self._prefetch(ids)
        deltas: list[Delta] = []
        for entry in entries:
            if entry.event_id in self._served:  # written twice under at_least_once
                continue
            self._served[entry.event_id] = entry
            labels = self._early.get(entry.event_id, ())
            if labels:
                self._early[entry.event_id] = ()
            for label in labels:  # as if they came now, one after the other
                self._label(entry.event_id, label, deltas, [])
        return deltas

    def labelled(
        self, records: Iterable[ConsumerRecord]
    ) -> tuple[list[Delta], list[Record], list[Record]]:
        """Take in labels; returns their changes, corrections to write, and dead letters."""
        good: list[tuple[ConsumerRecord, FeedbackRecord, Label]] = []
        letters: list[Record] = []
        for record in records:
            try:
                feedback, label = self._decode(record)
                good.append((record, feedback, label))
            except BadRecord as error:
                telemetry.DEAD_LETTERS.labels(self._name, error.cause).inc()
                letters.append(dead_letter(record, error))
        self._prefetch([feedback.event_id for _, feedback, _ in good])
        deltas: list[Delta] = []
        corrections: list[Record] = []
        for _, feedback, label in good:
            self._label(feedback.event_id, label, deltas, corrections)
        return deltas, corrections, letters

    def known(
        self, records: Iterable[ConsumerRecord], of: Callable[[ConsumerRecord, Label], bool]
    ) -> list[Delta]:
        """The label changes in the store of the events that these records of either topic name."""
        named = {}
        for record in records:
            with suppress(msgspec.MsgspecError):
                named[record.offset] = (record, _decode_name(record.value or b"").event_id)
        found = self._store.served([event_id for _, event_id in named.values()])
        deltas = []
        for (record, _), served in zip(named.values(), found, strict=True):
            before = 0.0
            for label in served.labels if served is not None else ():
                if served is not None and of(record, label):
                    deltas.append(Delta(served, label[1] - before))
                before = label[1]
        return deltas

    def matured(self) -> list[Record]:
        """The examples of events whose horizon has passed, in the order of event time."""
        horizon = self._feedback.horizon_seconds
        before = self._watermark - horizon
        due = {served.event_id: served for served in self._store.due(before)}
        due.update({k: s for k, s in self._served.items() if s.matured or s.event_time < before})
        examples = []
        for served in sorted(due.values(), key=lambda s: (s.event_time, s.event_id)):
            if served.matured:
                continue
            self._served[served.event_id] = replace(served, matured=True)
            if served.labels:
                examples.append(self._example(served, served.labels[-1], "feedback"))
            elif self._feedback.missing is not None:
                known = served.event_time + horizon
                absent = (-1, float(self._feedback.missing), known)
                examples.append(self._example(served, absent, "horizon"))
        return examples

    def commit(self, positions: Mapping[str, int]) -> None:
        """Write the changes so far to the store, and drop what no label can reach any more."""
        self.positions.update(positions)
        self._store.write(Changes(self._served, self._early, dict(self.positions), self._watermark))
        self._served, self._early = {}, {}
        self._expire()

    def _expire(self) -> None:
        before = self._watermark - self._feedback.keep_seconds
        if before >= self._expired + self._feedback.keep_seconds / 100:
            self._store.expire(before)
            self._expired = before

    def _label(
        self, event_id: str, label: Label, deltas: list[Delta], corrections: list[Record]
    ) -> None:
        served = self._served.get(event_id)
        if served is None:
            self._early[event_id] = (*self._early.get(event_id, ()), label)
            self._count("unmatched")
            return
        before = served.labels[-1] if served.labels else None
        if before is not None and (before[1] == label[1] or before[2] > label[2]):
            # said before, or overtaken by a later word on the same event
            self._count("duplicate" if before[1] == label[1] else "stale")
            return
        changed = replace(served, labels=(*served.labels, label))
        self._served[event_id] = changed
        deltas.append(Delta(changed, label[1] - (before[1] if before else 0.0)))
        self._count("corrected" if before else "late" if served.matured else "joined")
        if served.matured and (before is not None or label[1] != self._feedback.missing):
            corrections.append(self._example(changed, label, "correction"))

    def _prefetch(self, ids: list[str]) -> None:
        """Lay the store's entries for these events under the changes to come."""
        missing = [event_id for event_id in dict.fromkeys(ids) if event_id not in self._served]
        found = self._store.served(missing)
        self._served.update({served.event_id: served for served in found if served is not None})
        unknown = [i for i in missing if i not in self._served and i not in self._early]
        for event_id, labels in zip(unknown, self._store.early(unknown), strict=True):
            if labels:
                self._early[event_id] = labels

    def _decode(self, record: ConsumerRecord) -> tuple[FeedbackRecord, Label]:
        try:
            feedback = _decode_feedback(record.value or b"")
        except msgspec.ValidationError as error:
            raise BadRecord("invalid", str(error)) from None
        except msgspec.DecodeError as error:
            raise BadRecord("malformed", str(error)) from None
        if not record.key:
            raise BadRecord("missing-key", "key the label as its event was keyed")
        classes = self._feedback.classes
        if not math.isfinite(feedback.label) or (
            classes and feedback.label not in range(len(classes))
        ):
            raise BadRecord("label", f"{feedback.label} is not one of 0..{len(classes) - 1}")
        return feedback, (record.offset, feedback.label, _epoch(feedback.labelled_at))

    def _example(self, served: Served, label: Label, origin: str) -> Record:
        scored = _decode_scored(served.payload)
        example = Example(
            event_id=served.event_id,
            event_time=served.event_time,
            vector=scored.vector,
            score=scored.score,
            version=scored.version,
            label=label[1],
            labelled_at=label[2],
            origin=origin,
            key=served.key.decode(errors="replace"),
        )
        return served.key, encode(example), []

    def _count(self, outcome: str) -> None:
        telemetry.LABELS.labels(self._name, outcome).inc()


def _epoch(at: Any) -> float:
    """Seconds since 1970 of ISO 8601 text (UTC where it names no zone) or of a number."""
    if isinstance(at, str):
        try:
            parsed = datetime.fromisoformat(at)
        except ValueError:
            raise BadRecord("time", f"labelled_at {at!r} is not ISO 8601") from None
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(at):
        raise BadRecord("time", f"labelled_at {at} is not a time")
    return float(at)
