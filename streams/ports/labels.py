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


class ServedEvent(msgspec.Struct, frozen=True, gc=False):
    """What was served for an event, waiting for its label."""

    event_id: str
    key: bytes
    event_time: float
    """Seconds since 1970."""
    payload: bytes
    """The record of `P.scored`, as it was written."""
    labels: tuple[Label, ...] = ()
    """In offset order: the last is the one that counts."""
    matured: bool = False
    """Whether its horizon has passed: its example has been written, if it has one."""


@dataclass
class Changes:
    """What one commit changes in a label store."""

    entries: dict[str, ServedEvent]
    """To put, by event id."""
    early: dict[str, tuple[Label, ...]]
    """Labels without an event yet, by event id; an empty tuple removes them."""
    positions: dict[str, int]
    """Next offset by topic."""
    watermark: float
    """Largest event time served, seconds since 1970."""


class LabelStore(Protocol):
    """What waits for its label, of one partition, on local disk. Synchronous: it is local."""

    def entries(self, event_ids: Sequence[str]) -> list[ServedEvent | None]:
        """The entries of these events, in order; None where there is none."""
        ...

    def early(self, event_ids: Sequence[str]) -> list[tuple[Label, ...]]:
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
        """Largest event time written, seconds since 1970; 0.0 for a new store."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...
