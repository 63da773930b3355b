"""Records of history: where each will lie in its topic, and when it happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple, Protocol

from streams.kafka.partitioning import by_murmur2

CHUNK = 8192
"""Records that are planned at a time; memory is bounded by a few of these."""


class Dated(Protocol):
    """A record to come, and when it happens."""

    @property
    def at(self) -> float:
        """Seconds since 1970: an event's time, or when a label became known."""
        ...

    @property
    def topic(self) -> str:
        """Of events, or of feedback."""
        ...

    @property
    def key(self) -> bytes:
        """The field that keys events."""
        ...

    @property
    def value(self) -> bytes:
        """As a producer would write it."""
        ...


class HistoryRecord(NamedTuple):
    """A `SourceRecord` that also says when it happened."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    at: float
    """Seconds since 1970: an event's time, or when a label became known."""
    headers: tuple[tuple[str, bytes], ...] = ()


def chunks(
    found: Iterable[Dated], partitions: int, written: int, size: int = CHUNK
) -> Iterator[list[HistoryRecord]]:
    """The records in their order, each with its partition and offset, `size` at a time.

    Partitions are those that Java's clients and ours choose. All are written at one moment
    (milliseconds since 1970): what becomes of them is the same however often it is tried.
    """
    ends = Counter[tuple[str, int]]()

    @lru_cache(1 << 20)
    def home(key: bytes) -> int:
        return by_murmur2(key, partitions)

    def placed(one: Dated) -> HistoryRecord:
        topic, key = one.topic, one.key
        at = (topic, home(key))
        offset = ends[at]
        ends[at] = offset + 1
        return HistoryRecord(topic, at[1], offset, written, key, one.value, one.at)

    made = map(placed, found)
    while chunk := list(islice(made, size)):
        yield chunk
