"""Labels: what waits for its label, of one partition, and the store that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec


class Label(NamedTuple):
    """What was fed back about an event."""

    offset: int
    """Of the feedback record; -1 where there is none and its absence is the label."""
    value: float
    known_at: float
    """Seconds since 1970."""
    item: str = ""
    """Of a ranking: the candidate that it is of; empty of other tasks."""


class EventName(NamedTuple):
    """What tells an event from all others: an id need be unique only among those of its key."""

    key: bytes
    """Of its record."""
    event_id: str


class ServedEvent(msgspec.Struct, frozen=True, gc=False):
    """What was served for an event, waiting for its label."""

    event_id: str
    key: bytes
    event_time: float
    """Seconds since 1970."""
    payload: bytes
    """The record of `P.scored`, as it was written."""
    labels: tuple[Label, ...] = ()
    """The latest, in offset order: the last is the one that counts. Of a ranking, the latest of
    each candidate."""
    matured: bool = False
    """Whether its horizon has passed: its example has been written, if it has one."""
    dropped: float = 0.0
    """The label before the first of `labels`, where older ones are no longer kept; else 0."""

    @property
    def name(self) -> EventName:
        """What tells it from all other events."""
        return EventName(self.key, self.event_id)


@dataclass
class Changes:
    """What one commit changes in a label store."""

    entries: dict[EventName, ServedEvent]
    """To put."""
    early: dict[EventName, tuple[Label, ...]]
    """Labels without an event yet; an empty tuple removes them."""
    positions: dict[str, int]
    """Next offset by topic."""
    watermark: float
    """When the latest event that was served had happened, seconds since 1970."""


class LabelStore(Protocol):
    """What waits for its label, of one partition, on local disk. Synchronous: it is local."""

    def entries(self, names: Sequence[EventName]) -> list[ServedEvent | None]:
        """The entries of these events, in order; None where there is none."""
        ...

    def early(self, names: Sequence[EventName]) -> list[tuple[Label, ...]]:
        """Labels that came before their event was served, in order; empty where there are none."""
        ...

    def due(self, before: float) -> list[ServedEvent]:
        """Entries that have not matured and whose event time is below `before`, oldest first."""
        ...

    def write(self, changes: Changes) -> None:
        """Apply changes in one atomic, durable write."""
        ...

    def expire(self, before: float) -> None:
        """Drop matured entries and early labels older than `before` (event time, labelled_at)."""
        ...

    @property
    def positions(self) -> dict[str, int]:
        """Next offset by topic, as of the last write; empty for a new store."""
        ...

    @property
    def watermark(self) -> float:
        """As last written, seconds since 1970; 0.0 for a new store."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...
