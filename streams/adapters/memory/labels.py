"""A label store in memory, for `driftloop check` and tests."""

from __future__ import annotations

from collections.abc import Sequence

from streams.ports.labels import Changes, Label, ServedEvent


class MemoryLabelStore:
    """`LabelStore` in dictionaries."""

    def __init__(self) -> None:
        self._served: dict[str, ServedEvent] = {}
        self._early: dict[str, tuple[Label, ...]] = {}
        self._positions: dict[str, int] = {}
        self._watermark = 0.0

    def entries(self, event_ids: Sequence[str]) -> list[ServedEvent | None]:
        """The entries of these events."""
        return [self._served.get(event_id) for event_id in event_ids]

    def early(self, event_ids: Sequence[str]) -> list[tuple[Label, ...]]:
        """Labels without an event yet."""
        return [self._early.get(event_id, ()) for event_id in event_ids]

    def due(self, before: float) -> list[ServedEvent]:
        """Unmatured entries older than `before`, oldest first."""
        found = [s for s in self._served.values() if not s.matured and s.event_time < before]
        return sorted(found, key=lambda served: (served.event_time, served.event_id))

    def write(self, changes: Changes) -> None:
        """Apply changes."""
        self._served.update(changes.entries)
        for event_id, labels in changes.early.items():
            if labels:
                self._early[event_id] = labels
            else:
                self._early.pop(event_id, None)
        self._positions.update(changes.positions)
        self._watermark = changes.watermark

    def expire(self, before: float) -> None:
        """Drop what is older than `before`."""
        self._served = {
            event_id: served
            for event_id, served in self._served.items()
            if not (served.matured and served.event_time < before)
        }
        self._early = {k: v for k, v in self._early.items() if v[-1].known_at >= before}

    @property
    def positions(self) -> dict[str, int]:
        """Next offset by topic."""
        return dict(self._positions)

    @property
    def watermark(self) -> float:
        """Largest event time written."""
        return self._watermark

    def close(self) -> None:
        """Nothing to release."""
