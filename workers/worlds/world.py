"""A world: events as a producer would publish them, and their labels when they become known."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from workers.fetching import Notify
from workers.worlds.packages import Package, fetch


class Happening(NamedTuple):
    """What a world's reader gives: an event, and what turned out."""

    event_id: str
    key: str
    at: float
    """Seconds since 1970."""
    fields: Mapping[str, Any]
    """The event's own fields, as JSON has them."""
    label: float | None
    """None where nobody ever learns it."""
    labelled_at: float
    """When the label becomes known, not before the event."""
    item: str = ""
    """Of a request whose candidates are ranked: the one that the label is of."""


class EventRow(NamedTuple):
    """An event, as it is published."""

    at: float
    row: dict[str, Any]
    """Its `event_id`, the field that keys it, `at`, and its own fields."""


class LabelRow(NamedTuple):
    """A label, as it is published."""

    at: float
    row: dict[str, Any]
    """`event_id`, `label`, `labelled_at`, the field that keys the event, and `item`, if any."""


Reader = Callable[..., Iterator[Happening]]
"""Given the directories of a world's packages: its happenings, by event time."""


@dataclass(frozen=True)
class DataWorld:
    """Where events come from, what they hold, and what of them is real."""

    name: str
    key: str
    """The field that keys events."""
    licence: str
    """Of the data."""
    schema: str
    """The events' own fields, and what the label says."""
    times: str
    """Which times are real, and which are made."""
    packages: tuple[Package, ...]
    read: Reader

    def happenings(
        self, cache: Path, progress: Notify, limit: int | None = None
    ) -> Iterator[Happening]:
        """The first `limit` events, by event time, each with what turned out.

        Raises:
            ConfigurationError: a package is not what was pinned; or the cache cannot be written.
            Unavailable: a download failed.
        """
        homes = [fetch(package, cache, progress) for package in self.packages]
        return islice(self.read(*homes), limit)

    def timeline(
        self, cache: Path, progress: Notify, limit: int | None = None
    ) -> Iterator[EventRow | LabelRow]:
        """The first `limit` events and all their labels, in the order in which they are known.

        The packages are fetched when this is called. Held in memory are the labels that are not
        known yet. Raises as `happenings`.
        """
        return self._in_order(self.happenings(cache, progress, limit))

    def _in_order(self, happenings: Iterator[Happening]) -> Iterator[EventRow | LabelRow]:
        waiting: list[tuple[float, int, LabelRow]] = []
        for number, found in enumerate(happenings):
            while waiting and waiting[0][0] <= found.at:
                yield heapq.heappop(waiting)[2]
            names = {"event_id": found.event_id, self.key: found.key}
            yield EventRow(found.at, {**names, "at": found.at, **found.fields})
            if found.label is not None:
                row = {**names, "label": found.label, "labelled_at": found.labelled_at}
                row |= {"item": found.item} if found.item else {}
                label = LabelRow(found.labelled_at, row)
                heapq.heappush(waiting, (found.labelled_at, number, label))
        while waiting:
            yield heapq.heappop(waiting)[2]

    def events(self, cache: Path, progress: Notify, limit: int | None = None) -> Iterator[EventRow]:
        """The events alone, by event time."""
        found = self.timeline(cache, progress, limit)
        return (one for one in found if isinstance(one, EventRow))

    def labels(self, cache: Path, progress: Notify, limit: int | None = None) -> Iterator[LabelRow]:
        """The labels of the first `limit` events, by when they become known."""
        found = self.timeline(cache, progress, limit)
        return (one for one in found if isinstance(one, LabelRow))
