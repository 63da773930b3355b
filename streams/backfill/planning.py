"""History cut into blocks, so that a block at a time comes to what an event at a time would.

Within a block all labels come first, then each partition's events. That is what streaming does
where no event of the block would have seen anything else:

- A label may come before its time where the windows of its event's entities do not count that event
  until then, or where no earlier event of the block is of these entities.
- Events of several partitions may be folded side by side where no window of an entity that they
  share reaches as far as the block.

Where that does not hold, a block ends. A label that comes after its event's horizon makes a
correction, so what had matured by then matures first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from streams.backfill.records import HistoryRecord
from streams.errors import BadRecord
from streams.labelling.reading import FeedbackReader
from streams.ports.batches import SourceRecord
from streams.ports.labels import EventName, ServedEvent
from streams.records import Scored, decoder
from streams.scoring.decoding import Decoder
from streams.spec import Pipeline
from streams.spec.windows import KeyPlan

_decode_scored = decoder(Scored).decode

FindServed = Callable[[int, Sequence[SourceRecord]], Sequence[ServedEvent | None]]
"""Partition, labels -> what was served for their events; None where nothing was yet."""
Entity = tuple[str, str]
"""Key field and name."""


class LabelRun(NamedTuple):
    """Labels of one partition, one after the other."""

    watermark: float | None
    """The event time up to which events had come before them, where that makes some mature."""
    labels: list[SourceRecord]


class Happened(NamedTuple):
    """An event of the chunk that is planned, or one that was served before."""

    at: float
    entities: Sequence[Entity]
    """Those that take its label."""
    offset: int = -1
    """Of an event of the chunk."""


@dataclass
class Block:
    """What is worked off together: labels first, then events; each by partition, in their order."""

    labels: dict[int, list[LabelRun]] = field(default_factory=dict)
    events: dict[int, list[SourceRecord]] = field(default_factory=lambda: defaultdict(list))
    until: float = math.inf
    """The time of an event with which another block begins."""
    touched: dict[Entity, int] = field(default_factory=dict)
    """Entities of its events, and the partition of the latest of them."""

    def holds(self, partition: int, event: Happened) -> bool:
        """Whether an event of a partition is among the block's."""
        events = self.events.get(partition, ())
        return len(events) > 0 and event.offset >= events[0].offset


class _Inside(NamedTuple):
    """The good events of a chunk."""

    events: Mapping[EventName, Happened]
    touching: Mapping[tuple[int, int], tuple[EventName, Sequence[Entity]]]
    """By partition and offset: its name, and the entities whose windows may depend on it."""


_NOTHING = _Inside({}, {})


class Planner:
    """Cuts chunks of history into blocks."""

    def __init__(self, pipeline: Pipeline, decoder: Decoder, find_served: FindServed) -> None:
        plan, key = pipeline.plan, pipeline.event.key
        self._topics = pipeline.topics
        self._horizon = pipeline.feedback.horizon_seconds
        self._decoder = decoder
        self._reader = FeedbackReader(pipeline)
        self._find_served = find_served
        self._ages = [one.label_age for one in plan.keys if one.labels]
        shared = [one for one in plan.keys if one.edges and one.key != key]
        apart = [min(_delay(one) or math.inf, one.lag or math.inf) for one in shared]
        self._span = min(apart, default=math.inf)
        """Seconds of event time that partitions may be apart: what windows do not see."""
        self._at_once = [one.key for one in shared if not _delay(one)]
        """Shared keys of which an event sees the one before it."""
        self._label_keys = plan.label_keys
        self._watermarks = defaultdict[int, float](float)
        self._come = defaultdict[int, int](int)
        """By partition: the offset after the last event."""
        self._early = dict[EventName, None]()
        """Labels without an event so far; the latest of them."""

    def blocks(self, chunk: Sequence[HistoryRecord]) -> Iterator[Block]:
        """The blocks of consecutive records; what came before them has to be worked off."""
        labelled = self._labelled([one for one in chunk if one.topic == self._topics.feedback])
        inside = self._inside(chunk, labelled)
        block = Block()
        for record in chunk:
            if record.topic != self._topics.feedback:
                if self._ends_before(block, record, inside):
                    yield block
                    block = Block()
                self._add_event(block, record, inside)
                continue
            name, happened = labelled[record.partition, record.offset]
            happened = happened or self._came_before(record, name, inside)
            if happened is not None and self._too_early(block, record, happened):
                yield block
                block = Block()
            self._add_label(block, record, name, happened)
        if block.labels or block.events:
            yield block

    def _came_before(
        self, label: HistoryRecord, name: EventName | None, inside: _Inside
    ) -> Happened | None:
        event = None if name is None else inside.events.get(name)
        came = event is not None and event.offset < self._come[label.partition]
        return event if came else None

    def _labelled(
        self, labels: Sequence[HistoryRecord]
    ) -> dict[tuple[int, int], tuple[EventName | None, Happened | None]]:
        """By partition and offset: the event that a label names, and what was served for it."""
        found: dict[tuple[int, int], tuple[EventName | None, Happened | None]] = {}
        by_partition = defaultdict[int, list[HistoryRecord]](list)
        for label in labels:
            by_partition[label.partition].append(label)
        for number, some in by_partition.items():
            served = self._find_served(number, some)
            for label, one in zip(some, served, strict=True):
                happened = None if one is None else self._served(label, one)
                found[number, label.offset] = (self._name(label, one), happened)
        return found

    def _name(self, label: HistoryRecord, served: ServedEvent | None) -> EventName | None:
        if served is not None:
            return served.name
        try:
            return self._reader.name(label)
        except BadRecord:
            return None

    def _served(self, label: HistoryRecord, one: ServedEvent) -> Happened:
        entities: Sequence[Entity] = ()
        if not self._free(label.at, one.event_time):
            named = _decode_scored(one.payload).entities
            entities = list(named.items()) if isinstance(named, dict) else ()
        return Happened(one.event_time, entities)

    def _free(self, known: float, happened: float) -> bool:
        """Whether no window counts an event before its label is known; windows know seconds."""
        return all(known <= math.floor(happened) + age for age in self._ages)

    def _inside(
        self,
        chunk: Sequence[HistoryRecord],
        labelled: Mapping[tuple[int, int], tuple[EventName | None, Happened | None]],
    ) -> _Inside:
        """The chunk's good events, where the cut depends on them."""
        span = max(map(attrgetter("at"), chunk)) - min(map(attrgetter("at"), chunk))
        short = span < min([self._horizon, *self._ages])
        unknown = any(happened is None for _, happened in labelled.values())
        bound = any(happened and happened.entities for _, happened in labelled.values())
        if not (self._at_once or bound or (not short and (unknown or self._early))):
            return _NOTHING
        decoded = self._decoder.decode([one for one in chunk if one.topic == self._topics.events])
        keys = dict.fromkeys((*self._label_keys, *self._at_once))
        names = {key: decoded.entities[key] for key in keys}
        events = dict[EventName, Happened]()
        touching = dict[tuple[int, int], tuple[EventName, Sequence[Entity]]]()
        for i, (record, event_id) in enumerate(zip(decoded.records, decoded.ids, strict=True)):
            entities = [(key, names[key][i]) for key in names]
            takes = [one for one in entities if one[0] in self._label_keys]
            name = EventName(record.key or b"", event_id)
            events.setdefault(name, Happened(float(decoded.times[i]), takes, record.offset))
            touching[record.partition, record.offset] = (name, entities)
        return _Inside(events, touching)

    def _ends_before(self, block: Block, event: HistoryRecord, inside: _Inside) -> bool:
        """Whether an event would see what other partitions' events of the block leave."""
        if not block.events:
            return False
        if event.at >= block.until:
            return True
        if not self._at_once:
            return False
        _, touching = inside.touching.get((event.partition, event.offset), (None, ()))
        found = (block.touched.get(one) for one in touching if one[0] in self._at_once)
        return any(number not in (None, event.partition) for number in found)

    def _too_early(self, block: Block, label: HistoryRecord, event: Happened) -> bool:
        """Whether a label may not come before the events that the block has so far."""
        if not block.events:
            return False
        ripe = event.at + self._horizon < self._watermarks[label.partition]
        if ripe and block.holds(label.partition, event):
            return True  # its event may have to mature before it
        if self._free(label.at, event.at):
            return False
        return any(entity in block.touched for entity in event.entities)

    def _add_event(self, block: Block, record: HistoryRecord, inside: _Inside) -> None:
        if not block.events:
            block.until = min(block.until, math.floor(record.at) + self._span)
        block.events[record.partition].append(record)
        self._come[record.partition] = record.offset + 1
        happened = min(record.at, record.timestamp / 1000) if record.timestamp else record.at
        self._watermarks[record.partition] = max(self._watermarks[record.partition], happened)
        if not inside.touching:
            return
        name, touching = inside.touching.get((record.partition, record.offset), (None, ()))
        block.touched.update(dict.fromkeys(touching, record.partition))
        if name in self._early:  # the label reaches windows once the block has been worked off
            del self._early[name]
            self._ends_with(block, inside.events[name].at)

    def _ends_with(self, block: Block, happened: float) -> None:
        """End a block before the first event that is to see the label of one of its own events."""
        block.until = min([block.until, *(math.floor(happened) + age for age in self._ages)])

    def _add_label(
        self,
        block: Block,
        label: HistoryRecord,
        name: EventName | None,
        event: Happened | None,
    ) -> None:
        runs = block.labels.setdefault(label.partition, [])
        watermark, late = self._watermarks[label.partition], False
        if event is None:
            if name is not None:
                self._remember(name)
        else:
            late = event.at + self._horizon < watermark
            if block.holds(label.partition, event):
                self._ends_with(block, event.at)
        if late and (not runs or runs[-1].watermark != watermark):
            runs.append(LabelRun(watermark, []))
        elif not runs:
            runs.append(LabelRun(None, []))
        runs[-1].labels.append(label)

    def _remember(self, name: EventName) -> None:
        self._early[name] = None
        if len(self._early) > 100_000:
            del self._early[next(iter(self._early))]


def _delay(plan: KeyPlan) -> int:
    """The age from which on some window of a key counts events; 0 where it is at once."""
    windows = (*plan.windows, *(scan.window for scan in plan.scans))
    return min((plan.edges[newer] for newer, _ in windows), default=0)
