"""Examples: what was served, with its label, as a record to write."""

from __future__ import annotations

from streams.ports.batches import OutputRecord
from streams.ports.labels import Label, ServedEvent
from streams.records import Example, Scored, decoder, encode

_decode_scored = decoder(Scored).decode


def example_of(
    served: ServedEvent, label: Label, origin: str, previous: float | None = None
) -> OutputRecord:
    """The record of `P.examples` of an event that was served, with a label and where it is from."""
    scored = _decode_scored(served.payload)
    example = Example(
        event_id=served.event_id,
        event_time=served.event_time,
        vector=scored.vector,
        score=scored.score,
        version=scored.version,
        label=label.value,
        labelled_at=label.known_at,
        origin=origin,
        key=served.key.decode(errors="replace"),
        schema=scored.schema,
        decision=scored.decision,
        previous=previous,
        arm=scored.arm,
        propensity=scored.propensity,
    )
    return served.key, encode(example), []
