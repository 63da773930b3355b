"""What a join has changed and not committed: it lies over the store, and can be taken back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from msgspec.structs import replace

from streams.ports.labels import EventName, Label, LabelStore, ServedEvent
from streams.spec.candidates import MOST

_KEPT_LABELS = 16
"""So many of an event's labels are kept, however often it is labelled."""
_KEPT_EARLY_OF_ITEMS = 2 * MOST
"""So many labels of a ranking's candidates, while the event is not known."""


class Overlay:
    """Entries that were read from a store, as they are now."""

    def __init__(self, store: LabelStore) -> None:
        self._store = store
        self.served: dict[EventName, ServedEvent] = {}
        self.early: dict[EventName, tuple[Label, ...]] = {}
        self._undo: list[tuple[dict[EventName, Any], EventName, Any]] = []
        """The latest changes, in their order: where, and what was there; None for nothing."""

    def load(self, names: Sequence[EventName]) -> None:
        """Read the store's entries for these events, before they are changed."""
        missing = [name for name in dict.fromkeys(names) if name not in self.served]
        found = self._store.entries(missing)
        self.served.update({served.name: served for served in found if served is not None})
        unknown = [name for name in missing if name not in self.served and name not in self.early]
        for name, labels in zip(unknown, self._store.early(unknown), strict=True):
            if labels:
                self.early[name] = labels

    def put(self, name: EventName, served: ServedEvent) -> None:
        """Change an event's entry."""
        self._undo.append((self.served, name, self.served.get(name)))
        self.served[name] = served

    def put_early(self, name: EventName, labels: tuple[Label, ...]) -> None:
        """Change the labels of an event that was not served yet; those known first give way."""
        several = bool(labels) and bool(labels[-1].item)
        if len(labels) > (_KEPT_EARLY_OF_ITEMS if several else _KEPT_LABELS):
            first = min(labels, key=attrgetter("known_at"))
            labels = tuple(label for label in labels if label is not first)
        self._undo.append((self.early, name, self.early.get(name)))
        self.early[name] = labels

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """What changes within is taken back where it fails."""
        self._undo = []
        try:
            yield
        except BaseException:
            for into, name, before in reversed(self._undo):
                if before is None:
                    del into[name]
                else:
                    into[name] = before
            raise
        finally:
            self._undo = []

    def clear(self) -> None:
        """Forget everything: the store has it."""
        self.served, self.early = {}, {}


def labelled(served: ServedEvent, label: Label) -> ServedEvent:
    """The event with one more label; of a ranking, in place of that candidate's before."""
    if label.item:
        others = (one for one in served.labels if one.item != label.item)
        return replace(served, labels=(*others, label))
    labels = (*served.labels, label)
    if len(labels) <= _KEPT_LABELS:
        return replace(served, labels=labels)
    return replace(served, labels=labels[1:], dropped=labels[0].value)


def confirmed(served: ServedEvent, label: Label, known_at: float) -> ServedEvent:
    """The event whose label was fed back again, later: it stands against what came in between."""
    labels = (one._replace(known_at=known_at) if one is label else one for one in served.labels)
    return replace(served, labels=tuple(labels))
