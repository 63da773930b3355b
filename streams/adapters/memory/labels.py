"""A label store in memory, for `driftloop check` and tests."""

from __future__ import annotations

from collections.abc import Sequence

from streams.ports.labels import Changes, EventName, Label, ServedEvent


class MemoryLabelStore:
    """`LabelStore` in dictionaries."""

    def __init__(self) -> None:
        self._served: dict[EventName, ServedEvent] = {}
        self._early: dict[EventName, tuple[Label, ...]] = {}
        self._positions: dict[str, int] = {}
        self._watermark = 0.0

    def entries(self, names: Sequence[EventName]) -> list[ServedEvent | None]:
        """The entries of these events."""
        return [self._served.get(name) for name in names]

    def early(self, names: Sequence[EventName]) -> list[tuple[Label, ...]]:
        """Labels without an event yet."""
        return [self._early.get(name, ()) for name in names]

    def due(self, before: float) -> list[ServedEvent]:
        """Unmatured entries older than `before`, oldest first."""
        found = [s for s in self._served.values() if not s.matured and s.event_time < before]
        return sorted(found, key=lambda served: (served.event_time, served.event_id))

    def write(self, changes: Changes) -> None:
        """Apply changes."""
        self._served.update(changes.entries)
        for name, labels in changes.early.items():
            if labels:
                self._early[name] = labels
            else:
                self._early.pop(name, None)
        self._positions.update(changes.positions)
        self._watermark = changes.watermark

    def expire(self, before: float) -> None:
        """Drop what is older than `before`."""
        self._served = {
            name: served
            for name, served in self._served.items()
            if not (served.matured and served.event_time < before)
        }
        self._early = {k: v for k, v in self._early.items() if v[-1].known_at >= before}

    @property
    def positions(self) -> dict[str, int]:
        """Next offset by topic."""
        return dict(self._positions)

    @property
    def watermark(self) -> float:
        """As last written."""
        return self._watermark

    def close(self) -> None:
        """Nothing to release."""
