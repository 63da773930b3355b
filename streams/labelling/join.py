"""The late-label join of one partition: what was served and what was fed back become examples.

In any order of the two topics: an event's example is made once, when its horizon has passed (by
the event time of what was served since), with the label known by then or what no label means. So
examples come in the order of event time, and immature negatives never become examples. A label
that comes later, or changes, makes a correction.

An event counts as having happened when its record was written, at the latest: one whose clock is
fast does not make others mature.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from streams.dead_letters import Rejected
from streams.errors import BadRecord, DriftloopError
from streams.labelling.examples import ExampleMaker, is_candidate
from streams.labelling.overlay import Overlay, confirmed, labelled
from streams.labelling.reading import FeedbackReader, read_served
from streams.ports.batches import OutputRecord, SourceRecord
from streams.ports.labels import Changes, EventName, Label, LabelStore, ServedEvent
from streams.spec import Pipeline

log = structlog.get_logger(__name__)


class LabelChange(NamedTuple):
    """A change of an event's label, to be added to the windows of its entities."""

    event: ServedEvent
    before: float
    """The label that it had; 0 where it had none."""
    now: float

    @property
    def change(self) -> float:
        """What is added to a sum of labels."""
        return self.now - self.before


class Joined(NamedTuple):
    """What records of one topic have brought about."""

    changes: list[LabelChange]
    examples: list[OutputRecord]
    """To write: of events that have matured, or corrections."""
    rejected: list[Rejected]
    """Bad records, each with its cause."""
    unmatched: list[SourceRecord]
    """Labels that have found no event yet."""

    def followed_by(self, other: Joined) -> Joined:
        """Both, one after the other."""
        return Joined(
            self.changes + other.changes,
            self.examples + other.examples,
            self.rejected + other.rejected,
            self.unmatched + other.unmatched,
        )


class Join:
    """The join itself: pure but for its store. Uncommitted changes lie over the store."""

    def __init__(self, pipeline: Pipeline, store: LabelStore) -> None:
        self._topics = pipeline.topics
        self._feedback = pipeline.feedback
        self._reader = FeedbackReader(pipeline)
        self._examples = ExampleMaker(pipeline.feedback)
        self._store = store
        self._overlay = Overlay(store)
        self._watermark = store.watermark
        self._expired = -math.inf
        self._outcomes: Counter[str] = Counter()
        self.positions = store.positions

    @property
    def stored_positions(self) -> dict[str, int]:
        """Next offset by topic, as the store has it on disk."""
        return self._store.positions

    def take(self, records: Sequence[SourceRecord]) -> Joined:
        """Join consecutive records of one topic.

        An error that nobody foresaw costs the records that bring it about, with the cause `failed`.
        """
        before = self._watermark, self._outcomes.copy()
        try:
            with self._overlay.undone_on_failure():
                return self._take(records)
        except DriftloopError:
            raise
        except Exception as error:
            self._watermark, self._outcomes = before
            if len(records) > 1:
                middle = len(records) // 2
                return self.take(records[:middle]).followed_by(self.take(records[middle:]))
            self._check_store(error)
            log.error("a record could not be joined, setting it aside", exc_info=error)
            bad = BadRecord("failed", f"{type(error).__name__}: {error}")
            return Joined([], [], [(record, bad) for record in records], [])

    def advance(self, watermark: float) -> list[OutputRecord]:
        """Let what was served mature as if an event had happened then; returns its examples."""
        self._watermark = max(self._watermark, watermark)
        return self._matured()

    def served(self, records: Iterable[SourceRecord]) -> list[ServedEvent | None]:
        """What was served for the events that labels name, in order; None where nothing was."""
        names: list[EventName | None] = []
        for record in records:
            name = None
            with suppress(BadRecord):
                name = self._reader.name(record)
            names.append(name)
        self._overlay.load([name for name in names if name is not None])
        return [None if name is None else self._overlay.served.get(name) for name in names]

    def replay(self, topic: str, records: Sequence[SourceRecord]) -> list[LabelChange]:
        """Join consecutive records whose outputs were written before; returns labels' changes."""
        changes = self.take(records).changes
        self.outcomes()
        self.positions[topic] = records[-1].offset + 1
        return changes

    def label_changes(
        self, records: Iterable[SourceRecord], chosen: Callable[[SourceRecord, Label], bool]
    ) -> list[LabelChange]:
        """The chosen label changes, from the store, of events that records of either topic name."""
        named = []
        for record in records:
            with suppress(BadRecord):
                named.append((record, self._reader.name(record)))
        found = self._store.entries([name for _, name in named])
        changes = []
        for (record, _), served in zip(named, found, strict=True):
            before = served.dropped if served is not None else 0.0
            for label in served.labels if served is not None else ():
                if served is not None and chosen(record, label):
                    changes.append(LabelChange(served, before, label.value))
                before = label.value
        return changes

    def outcomes(self) -> Counter[str]:
        """How many labels had which outcome since the last call."""
        found, self._outcomes = self._outcomes, Counter()
        return found

    def commit(self) -> None:
        """Write the changes so far to the store, and drop what no label can reach any more."""
        overlay, positions = self._overlay, dict(self.positions)
        self._store.write(Changes(overlay.served, overlay.early, positions, self._watermark))
        overlay.clear()
        self._expire()

    def _take(self, records: Sequence[SourceRecord]) -> Joined:
        if records and records[0].topic == self._topics.scored:
            changes, rejected = self._add_served(records)
            return Joined(changes, self._matured(), rejected, [])
        return self._add_labels(records)

    def _add_served(
        self, records: Iterable[SourceRecord]
    ) -> tuple[list[LabelChange], list[Rejected]]:
        """Take in what was served; returns the labels that had come before it."""
        entries, rejected = list[ServedEvent](), list[Rejected]()
        watermark = self._watermark
        for record in records:
            if record.value is None:  # erased
                continue
            try:
                served, happened = read_served(record)
            except BadRecord as error:
                rejected.append((record, error))
                continue
            entries.append(served)
            watermark = max(watermark, happened)
        overlay = self._overlay
        names = [served.name for served in entries]
        overlay.load(names)
        changes: list[LabelChange] = []
        for name, served in zip(names, entries, strict=True):
            if name in overlay.served:  # written twice under at_least_once
                continue
            overlay.put(name, served)
            labels = overlay.early.get(name, ())
            if labels:
                overlay.put_early(name, ())
            self._outcomes["awaited"] += len(labels)
            for label in labels:  # as if they came now, one after the other
                self._label(name, label, changes, [])
        self._watermark = watermark
        return changes, rejected

    def _add_labels(self, records: Iterable[SourceRecord]) -> Joined:
        """Take in labels; returns their changes, and corrections to write."""
        good: list[tuple[SourceRecord, EventName, Label]] = []
        rejected: list[Rejected] = []
        for record in records:
            try:
                good.append((record, *self._reader.label(record)))
            except BadRecord as error:
                rejected.append((record, error))
        self._overlay.load([name for _, name, _ in good])
        joined = Joined([], [], rejected, [])
        for record, name, label in good:
            if name not in self._overlay.served:
                joined.unmatched.append(record)
            self._label(name, label, joined.changes, joined.examples)
        return joined

    def _matured(self) -> list[OutputRecord]:
        """The examples of events whose horizon has passed, in the order of event time."""
        found = map(self._examples.matured, self._mature())
        return [example for example in found if example is not None]

    def _mature(self) -> list[ServedEvent]:
        """Mark the events whose horizon has passed; returns them in the order of event time."""
        before = self._watermark - self._feedback.horizon_seconds
        due = {served.name: served for served in self._store.due(before)}
        due.update(
            {k: s for k, s in self._overlay.served.items() if s.matured or s.event_time < before}
        )
        ripe = [(name, served) for name, served in due.items() if not served.matured]
        for name, served in ripe:
            self._overlay.put(name, replace(served, matured=True))
        return sorted((served for _, served in ripe), key=attrgetter("event_time", "event_id"))

    def _expire(self) -> None:
        before = self._watermark - self._feedback.keep_seconds
        if before >= self._expired + self._feedback.keep_seconds / 100:
            self._store.expire(before)
            self._expired = before

    def _label(
        self,
        name: EventName,
        label: Label,
        changes: list[LabelChange],
        corrections: list[OutputRecord],
    ) -> None:
        overlay = self._overlay
        served = overlay.served.get(name)
        if served is None:
            overlay.put_early(name, (*overlay.early.get(name, ()), label))
            self._outcomes["unmatched"] += 1
            return
        if label.item and not is_candidate(served, label.item):
            self._outcomes["no_candidate"] += 1
            return
        same = (one for one in reversed(served.labels) if one.item == label.item)
        before = next(same, None)
        if before is not None and before.value == label.value:
            if label.known_at > before.known_at:
                overlay.put(name, confirmed(served, before, label.known_at))
            self._outcomes["duplicate"] += 1
            return
        if before is not None and before.known_at > label.known_at:
            self._outcomes["stale"] += 1
            return
        changed = labelled(served, label)
        overlay.put(name, changed)
        changes.append(LabelChange(changed, before.value if before else 0.0, label.value))
        self._outcomes["corrected" if before else "late" if served.matured else "joined"] += 1
        if served.matured:
            correction = self._examples.corrected(served, changed, before)
            corrections += [] if correction is None else [correction]

    def _check_store(self, error: Exception) -> None:
        """Raise the error where the store does not answer: no record is at fault."""
        try:
            self._store.entries([EventName(b"", "")])
            self._store.due(0.0)
        except Exception:
            raise error from None
