"""What a lane has to do: records of its topics, in the order in which they were written.

Within a topic the order is the offsets'. Between two topics it is the records' timestamps: a record
is taken once the other topic has been read up to then, or to its end. So a backlog is worked off as
it would have been when it was new, whichever topic is fetched first. Nothing is queued without
bound, by records or by bytes: a topic that has brought too much is paused.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter
from typing import NamedTuple, Protocol

from streams.engine.polling import Fetched, Limits
from streams.ports.batches import SourceRecord, TopicPartition

_key, _value = attrgetter("key"), attrgetter("value")

_SLACK = 0.1
"""Seconds by which one topic may be ahead of another: a micro-batch is not cut for less."""


class Waiting(NamedTuple):
    """What waits of one topic."""

    records: int
    written: float
    """When the first was written, seconds since 1970; of none, when the last was that came. 0 where
    none has come yet."""


NOTHING = Waiting(0, 0.0)


class Flow(Protocol):
    """Stops and resumes fetching from a partition; a Faust consumer is one."""

    def on_buffer_full(self, tp: TopicPartition) -> None:
        """Stop fetching."""
        ...

    def on_buffer_drop(self, tp: TopicPartition) -> None:
        """Fetch again."""
        ...

    def read_to_end(self, tp: TopicPartition, arrived: int) -> bool:
        """Whether a partition holds nothing (committed) from the offset `arrived` on."""
        ...


@dataclass
class _Part:
    """Records that were fetched together, or some of them."""

    fetched: Fetched
    size: int
    """Bytes."""
    written: float
    """When the first was written, seconds since 1970; not later than when it came."""


@dataclass
class _Queue:
    """What waits of one topic."""

    tp: TopicPartition
    parts: deque[_Part] = field(default_factory=deque)
    records: int = 0
    size: int = 0
    arrived: int = 0
    """The offset after the last record that came."""
    written: float = 0.0
    """When that was written, seconds since 1970."""
    paused: bool = False

    def add(self, part: _Part, *, first: bool = False) -> None:
        self.parts.appendleft(part) if first else self.parts.append(part)
        self.records += len(part.fetched.records)
        self.size += part.size

    def pop(self) -> _Part:
        part = self.parts.popleft()
        self.records -= len(part.fetched.records)
        self.size -= part.size
        return part


class Inbox:
    """The queues of one lane's topics."""

    def __init__(self, partition: int, topics: Iterable[str], limits: Limits, flow: Flow) -> None:
        self._limits = limits
        self._flow = flow
        self._queues = {topic: _Queue(TopicPartition(topic, partition)) for topic in topics}

    def put(self, fetched: Fetched) -> None:
        """Queue records; pauses their partition when there are many."""
        queue, now = self._queues[fetched.topic], time.time()
        for records, size in _split(fetched.records, self._limits):
            written = min(records[0].timestamp / 1000, now)
            queue.add(_Part(replace(fetched, records=records), size, written))
        queue.arrived = max(queue.arrived, int(fetched.records[-1].offset) + 1)
        queue.written = fetched.records[-1].timestamp / 1000
        full = queue.records > self._limits.queued_records or queue.size > self._limits.queued_bytes
        if full:
            queue.paused = True
            self._flow.on_buffer_full(queue.tp)

    def take(self) -> tuple[Fetched, int] | None:
        """The next micro-batch, of one topic, and its bytes; None while there is none to take."""
        ready = [queue for queue in self._queues.values() if queue.parts]
        if not ready or self.waits:
            return None
        chosen = min(ready, key=lambda queue: queue.parts[0].written)
        others = (queue.parts[0].written for queue in ready if queue is not chosen)
        until = min(others, default=math.inf) + _SLACK
        part = self._cut(chosen, until)
        records, size = part.fetched.records, part.size
        while chosen.parts and chosen.parts[0].written <= until:
            following = chosen.parts[0]
            if len(records) + len(following.fetched.records) > self._limits.batch_records:
                break
            if size + following.size > self._limits.batch_bytes:
                break
            following = self._cut(chosen, until)
            records, size = records + following.fetched.records, size + following.size
        self._resume(chosen)
        return replace(part.fetched, records=records), size

    @property
    def waits(self) -> bool:
        """Whether there is something to take once another topic has been read so far."""
        empty = [queue for queue in self._queues.values() if not queue.parts]
        return len(empty) < len(self._queues) and not all(
            self._flow.read_to_end(queue.tp, queue.arrived) for queue in empty
        )

    def waiting(self, topic: str) -> Waiting:
        """What waits of a topic."""
        queue = self._queues[topic]
        return Waiting(queue.records, queue.parts[0].written if queue.parts else queue.written)

    @property
    def oldest(self) -> float | None:
        """Monotonic time at which the oldest record came that waits; None for none."""
        first = (queue.parts[0] for queue in self._queues.values() if queue.parts)
        return min((part.fetched.received for part in first), default=None)

    def clear(self) -> None:
        """Drop everything."""
        for queue in self._queues.values():
            queue.parts.clear()
            queue.records = queue.size = 0

    def _cut(self, queue: _Queue, until: float) -> _Part:
        """The queue's first part; what of it was written after a time stays."""
        part = queue.pop()
        records = part.fetched.records
        if until == math.inf or records[-1].timestamp / 1000 <= until:
            return part
        later = (i for i, one in enumerate(records) if i and one.timestamp / 1000 > until)
        if not (end := next(later, 0)):
            return part
        size = sum(map(_bytes, records[:end]))
        rest = replace(part.fetched, records=records[end:])
        queue.add(
            _Part(rest, part.size - size, min(records[end].timestamp / 1000, time.time())),
            first=True,
        )
        return _Part(replace(part.fetched, records=records[:end]), size, part.written)

    def _resume(self, queue: _Queue) -> None:
        few = queue.records <= self._limits.queued_records // 2
        if queue.paused and few and queue.size <= self._limits.queued_bytes // 2:
            queue.paused = False
            self._flow.on_buffer_drop(queue.tp)


def _split(records: list[SourceRecord], limits: Limits) -> Iterator[tuple[list[SourceRecord], int]]:
    """Consecutive records in lists that a micro-batch may hold, and the bytes of each list."""
    total = sum(map(len, filter(None, chain(map(_value, records), map(_key, records)))))
    if len(records) <= limits.batch_records and total <= limits.batch_bytes:
        yield records, total  # the usual case
        return
    sizes = list(map(_bytes, records))
    start = total = 0
    for i, size in enumerate(sizes):
        full = i - start == limits.batch_records or total + size > limits.batch_bytes
        if full and i > start:
            yield records[start:i], total
            start, total = i, 0
        total += size
    yield records[start:], total


def _bytes(record: SourceRecord) -> int:
    return len(record.value or b"") + len(record.key or b"")
