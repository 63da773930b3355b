"""The late-label join of one partition: what was served and what was fed back become examples.

In any order of the two topics: an event's example is made once, when its horizon has passed (by
the event time of what was served since), with the label known by then or what no label means. So
examples come in the order of event time, and immature negatives never become examples. A label
that comes later, or changes, makes a correction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from streams.dead_letters import Rejected
from streams.errors import BadRecord
from streams.ports.batches import OutputRecord, SourceRecord
from streams.ports.labels import Changes, Label, LabelStore, ServedEvent
from streams.records import Example, FeedbackRecord, Scored, decoder, encode
from streams.spec import Pipeline

_decode_scored = decoder(Scored).decode
_decode_feedback = decoder(FeedbackRecord).decode


class _Named(msgspec.Struct):
    event_id: str


_decode_name = decoder(_Named).decode


class LabelChange(NamedTuple):
    """A change of an event's label, to be added to the windows of its entities."""

    event: ServedEvent
    change: float


class Join:
    """The join itself: pure but for its store. Uncommitted changes lie over the store."""

    def __init__(self, pipeline: Pipeline, store: LabelStore) -> None:
        self._topics = pipeline.topics
        self._feedback = pipeline.feedback
        self._store = store
        self._served: dict[str, ServedEvent] = {}
        self._early: dict[str, tuple[Label, ...]] = {}
        self._watermark = store.watermark
        self._expired = -math.inf
        self._outcomes: Counter[str] = Counter()
        self.positions = store.positions

    @property
    def stored_positions(self) -> dict[str, int]:
        """Next offset by topic, as the store has it on disk."""
        return self._store.positions

    def add_served(self, records: Iterable[SourceRecord]) -> list[LabelChange]:
        """Take in what was served; returns the labels that had come before it."""
        entries = []
        for record in records:
            scored = _decode_scored(record.value or b"")
            entries.append(
                ServedEvent(
                    scored.event_id, record.key or b"", scored.event_time, record.value or b""
                )
            )
        self._watermark = max([self._watermark, *(entry.event_time for entry in entries)])
        ids = [entry.event_id for entry in entries]
        self._prefetch(ids)
        changes: list[LabelChange] = []
        for entry in entries:
            if entry.event_id in self._served:  # written twice under at_least_once
                continue
            self._served[entry.event_id] = entry
            labels = self._early.get(entry.event_id, ())
            if labels:
                self._early[entry.event_id] = ()
            for label in labels:  # as if they came now, one after the other
                self._label(entry.event_id, label, changes, [])
        return changes

    def add_labels(
        self, records: Iterable[SourceRecord]
    ) -> tuple[list[LabelChange], list[OutputRecord], list[Rejected]]:
        """Take in labels; returns their changes, corrections to write, and bad records."""
        good: list[tuple[str, Label]] = []
        rejected: list[Rejected] = []
        for record in records:
            try:
                good.append(self._decode(record))
            except BadRecord as error:
                rejected.append((record, error))
        self._prefetch([event_id for event_id, _ in good])
        changes: list[LabelChange] = []
        corrections: list[OutputRecord] = []
        for event_id, label in good:
            self._label(event_id, label, changes, corrections)
        return changes, corrections, rejected

    def replay(self, topic: str, records: Sequence[SourceRecord]) -> list[LabelChange]:
        """Join consecutive records whose outputs were written before; returns labels' changes."""
        if topic == self._topics.scored:
            changes = self.add_served(records)
            self._mature()
        else:
            changes, _, _ = self.add_labels(records)
        self.outcomes()
        self.positions[topic] = records[-1].offset + 1
        return changes

    def label_changes(
        self, records: Iterable[SourceRecord], chosen: Callable[[SourceRecord, Label], bool]
    ) -> list[LabelChange]:
        """The chosen label changes, from the store, of events that records of either topic name."""
        named = {}
        for record in records:
            with suppress(msgspec.MsgspecError):
                named[record.offset] = (record, _decode_name(record.value or b"").event_id)
        found = self._store.entries([event_id for _, event_id in named.values()])
        changes = []
        for (record, _), served in zip(named.values(), found, strict=True):
            before = 0.0
            for label in served.labels if served is not None else ():
                if served is not None and chosen(record, label):
                    changes.append(LabelChange(served, label.value - before))
                before = label.value
        return changes

    def matured(self) -> list[OutputRecord]:
        """The examples of events whose horizon has passed, in the order of event time."""
        examples = []
        for served in self._mature():
            if served.labels:
                examples.append(self._example(served, served.labels[-1], "feedback"))
            elif self._feedback.missing is not None:
                known = served.event_time + self._feedback.horizon_seconds
                absent = Label(-1, float(self._feedback.missing), known)
                examples.append(self._example(served, absent, "horizon"))
        return examples

    def outcomes(self) -> Counter[str]:
        """How many labels had which outcome since the last call."""
        found, self._outcomes = self._outcomes, Counter()
        return found

    def _mature(self) -> list[ServedEvent]:
        """Mark the events whose horizon has passed; returns them in the order of event time."""
        before = self._watermark - self._feedback.horizon_seconds
        due = {served.event_id: served for served in self._store.due(before)}
        due.update({k: s for k, s in self._served.items() if s.matured or s.event_time < before})
        ripe = [served for served in due.values() if not served.matured]
        self._served.update({s.event_id: replace(s, matured=True) for s in ripe})
        return sorted(ripe, key=attrgetter("event_time", "event_id"))

    def commit(self) -> None:
        """Write the changes so far to the store, and drop what no label can reach any more."""
        self._store.write(Changes(self._served, self._early, dict(self.positions), self._watermark))
        self._served, self._early = {}, {}
        self._expire()

    def _expire(self) -> None:
        before = self._watermark - self._feedback.keep_seconds
        if before >= self._expired + self._feedback.keep_seconds / 100:
            self._store.expire(before)
            self._expired = before

    def _label(
        self,
        event_id: str,
        label: Label,
        changes: list[LabelChange],
        corrections: list[OutputRecord],
    ) -> None:
        served = self._served.get(event_id)
        if served is None:
            self._early[event_id] = (*self._early.get(event_id, ()), label)
            self._outcomes["unmatched"] += 1
            return
        before = served.labels[-1] if served.labels else None
        if before is not None and (before.value == label.value or before.known_at > label.known_at):
            # a repetition, or older than the label that the event has
            self._outcomes["duplicate" if before.value == label.value else "stale"] += 1
            return
        changed = replace(served, labels=(*served.labels, label))
        self._served[event_id] = changed
        changes.append(LabelChange(changed, label.value - (before.value if before else 0.0)))
        self._outcomes["corrected" if before else "late" if served.matured else "joined"] += 1
        if served.matured and (before is not None or label.value != self._feedback.missing):
            corrections.append(self._example(changed, label, "correction"))

    def _prefetch(self, ids: list[str]) -> None:
        """Load the store's entries for these events, before changing them."""
        missing = [event_id for event_id in dict.fromkeys(ids) if event_id not in self._served]
        found = self._store.entries(missing)
        self._served.update({served.event_id: served for served in found if served is not None})
        unknown = [i for i in missing if i not in self._served and i not in self._early]
        for event_id, labels in zip(unknown, self._store.early(unknown), strict=True):
            if labels:
                self._early[event_id] = labels

    def _decode(self, record: SourceRecord) -> tuple[str, Label]:
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
        label = Label(record.offset, feedback.label, _epoch(feedback.labelled_at))
        return feedback.event_id, label

    def _example(self, served: ServedEvent, label: Label, origin: str) -> OutputRecord:
        scored = _decode_scored(served.payload)
        example = Example(
            event_id=served.event_id,
            event_time=served.event_time,
            vector=scored.vector,
            score=scored.score,
            version=scored.version,
            label=label.value,
            labelled_at=label.known_at,
            origin=origin,
            key=served.key.decode(errors="replace"),
        )
        return served.key, encode(example), []


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
