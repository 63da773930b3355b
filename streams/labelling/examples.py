"""Examples: what was served for an event, with its label or with those of its candidates."""

from __future__ import annotations

from collections.abc import Sequence

from streams.ports.batches import OutputRecord
from streams.ports.labels import Label, ServedEvent
from streams.records import Example, Scored, decoder, encode
from streams.spec import Feedback

_decode_scored = decoder(Scored).decode


class ExampleMaker:
    """Makes the records of `P.examples`."""

    def __init__(self, feedback: Feedback) -> None:
        self._feedback = feedback
        self._missing = feedback.missing

    def matured(self, served: ServedEvent) -> OutputRecord | None:
        """Of an event whose horizon has passed; None where it has no label, nor its absence one."""
        if served.labels:
            return self._made(served, served.labels[-1], "feedback")
        if self._missing is None:
            return None
        known = served.event_time + self._feedback.horizon_seconds
        return self._made(served, Label(-1, float(self._missing), known), "horizon")

    def corrected(
        self, before: ServedEvent, now: ServedEvent, replaced: Label | None
    ) -> OutputRecord | None:
        """Of a matured event whose last label has come since, or is another.

        None where that says what its absence said.
        """
        label = now.labels[-1]
        if replaced is None and label.value == self._missing:
            return None
        known = replaced.value if replaced else self._missing
        return self._made(now, label, "correction", (before, known))

    def _made(
        self,
        served: ServedEvent,
        label: Label,
        origin: str,
        before: tuple[ServedEvent, float | None] | None = None,
    ) -> OutputRecord:
        """With `before`: the event as it was, and the label that is replaced."""
        scored = _decode_scored(served.payload)
        value, previous = label.value, before[1] if before else None
        labels = self._of_items(served, scored.items)
        replaced = self._of_items(before[0], scored.items) if before else []
        if labels:
            value, previous = max(labels), max(replaced, default=previous)
        example = Example(
            event_id=served.event_id,
            event_time=served.event_time,
            vector=scored.vector,
            score=scored.score,
            version=scored.version,
            label=value,
            labelled_at=label.known_at,
            origin=origin,
            key=served.key.decode(errors="replace"),
            schema=scored.schema,
            decision=scored.decision,
            previous=previous,
            arm=scored.arm,
            propensity=scored.propensity,
            items=scored.items,
            positions=scored.positions,
            propensities=scored.propensities,
            labels=labels,
            previous_labels=replaced,
        )
        return served.key, encode(example), []

    def _of_items(self, served: ServedEvent, items: Sequence[str]) -> list[float]:
        """The label of each candidate, which is what its absence means where it has none."""
        known = {one.item: one.value for one in served.labels}
        return [known.get(item, self._missing or 0.0) for item in items]


def is_candidate(served: ServedEvent, item: str) -> bool:
    """Whether an event had such a candidate."""
    return item in _decode_scored(served.payload).items
