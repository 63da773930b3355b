"""Two topics are worked off in the order in which they were written; nothing grows unbounded."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest
from aiokafka import ConsumerRecord

from streams.engine.inbox import Inbox
from streams.engine.polling import Fetched, Limits
from streams.ports.batches import SourceRecord, TopicPartition

T0 = 1_700_000_000_000


class Reader:
    """A flow that knows how far topics have been read."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {}
        self.paused: set[TopicPartition] = set()

    def on_buffer_full(self, tp: TopicPartition) -> None:
        self.paused.add(tp)

    def on_buffer_drop(self, tp: TopicPartition) -> None:
        self.paused.discard(tp)

    def read_to_end(self, tp: TopicPartition, arrived: int) -> bool:
        return arrived >= self.ends.get(tp.topic, 0)


def record(topic: str, offset: int, at: int, size: int = 1) -> SourceRecord:
    value = bytes(size)
    found: SourceRecord = ConsumerRecord(
        topic, 0, offset, T0 + at, 0, b"", value, None, 0, size, ()
    )
    return found


def fetched(*records: SourceRecord) -> Fetched:
    return Fetched(records[0].topic, 0, list(records), time.monotonic(), 1)


def taken(inbox: Inbox) -> list[tuple[str, int]]:
    """Everything that can be taken, as topic and offset."""
    found = []
    while (batch := inbox.take()) is not None:
        found += [(record.topic, record.offset) for record in batch[0].records]
    return found


def inbox_of(reader: Reader, **limits: int) -> Inbox:
    return Inbox(0, ["a", "b"], Limits(**limits), reader)


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_backlog_of_two_topics_is_merged_by_when_it_was_written(first: str) -> None:
    reader = Reader()
    reader.ends = {"a": 50, "b": 50}
    inbox = inbox_of(reader)
    dice = random.Random(1)
    a = [record("a", i, 1000 * i) for i in range(50)]
    b = [record("b", i, 1000 * i + dice.choice([-500, 500])) for i in range(50)]
    for records in (a, b) if first == "a" else (b, a):
        assert taken(inbox) == []
        inbox.put(fetched(*records[:20]))
        inbox.put(fetched(*records[20:]))
    written = {("a", r.offset): r.timestamp for r in a} | {("b", r.offset): r.timestamp for r in b}
    order = [written[one] for one in taken(inbox)]
    assert len(order) == 100
    assert all(later >= earlier for earlier, later in pairwise(order))


def test_what_is_written_at_the_same_moment_is_not_cut_apart() -> None:
    inbox = inbox_of(Reader())
    inbox.put(fetched(*(record("a", i, i) for i in range(50))))
    inbox.put(fetched(record("b", 0, 10)))
    found = inbox.take()
    assert found is not None
    assert len(found[0].records) == 50


def test_a_topic_that_has_more_is_waited_for_and_one_that_is_read_to_its_end_is_not() -> None:
    reader = Reader()
    reader.ends = {"b": 1}
    inbox = inbox_of(reader)
    assert not inbox.waits
    inbox.put(fetched(record("a", 0, 0)))
    assert inbox.waits
    assert inbox.take() is None
    inbox.put(fetched(record("b", 0, -1000)))
    assert taken(inbox) == [("b", 0), ("a", 0)]


def test_a_clock_that_is_ahead_holds_nobody_up() -> None:
    reader = Reader()
    inbox = inbox_of(reader)
    inbox.put(fetched(record("b", 0, 10**12)))  # dated centuries ahead: it counts as of now
    now = time.time() * 1000 - T0
    inbox.put(fetched(record("a", 0, int(now) - 5000)))
    inbox.put(fetched(record("a", 1, 10**12)))
    assert taken(inbox)[0] == ("a", 0)
    inbox.put(fetched(record("b", 1, 10**12)))
    assert taken(inbox) == [("b", 1)]


def test_micro_batches_are_bounded_by_bytes_and_a_giant_is_one_by_itself() -> None:
    inbox = inbox_of(Reader(), batch_bytes=100)
    sizes = [40, 40, 40, 500, 10, 10]
    inbox.put(fetched(*(record("a", i, 0, size) for i, size in enumerate(sizes))))
    found = []
    while (batch := inbox.take()) is not None:
        found.append((len(batch[0].records), batch[1]))
    assert found == [(2, 80), (1, 40), (1, 500), (2, 20)]


def test_a_topic_that_has_brought_many_bytes_is_paused_alone() -> None:
    reader = Reader()
    inbox = inbox_of(reader, batch_bytes=100)
    inbox.put(fetched(*(record("a", i, 0, 90) for i in range(3))))
    inbox.put(fetched(record("b", 0, 10_000)))
    assert reader.paused == {("a", 0)}
    while reader.paused:
        assert inbox.take() is not None
    assert taken(inbox)[-1] == ("b", 0)
