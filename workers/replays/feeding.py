"""A world's records, published by slots of event time, never ahead of what the loop has learnt.

Of a slot first the labels go out, when all candidates that were due are decided, and then its
events; the next slot waits until these are scored and joined. Since an event becomes an example
when its horizon has passed by the time of events that were served, nothing is served by a version
that has learnt what was not known yet. `workers.replays.figures` counts that it is so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from streams.kafka.connection import Producer
from streams.kafka.writing import send_all
from streams.spec import Pipeline
from workers.operations.files import TimedRecord
from workers.replays.pacing import Pace

_SLOTS = 8
"""In the time between two candidates."""


@dataclass
class Sent:
    """What has gone in so far."""

    events: int = 0
    labels: int = 0
    at: float = 0.0
    """Event time, seconds since 1970."""


@dataclass
class ReplaySlot:
    """Records of some event time."""

    events: list[TimedRecord] = field(default_factory=list)
    labels: list[TimedRecord] = field(default_factory=list)


def slots(pipeline: Pipeline, records: Iterable[TimedRecord]) -> Iterator[ReplaySlot]:
    """Records, which are in the order of their times, by slot; none is empty."""
    span = pipeline.policies.retrain.every_seconds / _SLOTS
    for _, found in groupby(records, lambda record: record.at // span):
        slot = ReplaySlot()
        for record in found:
            events = record.topic == pipeline.topics.events
            (slot.events if events else slot.labels).append(record)
        yield slot


async def feed(
    pipeline: Pipeline,
    producer: Producer,
    records: Iterable[TimedRecord],
    pace: Pace,
    show: Callable[[Sent], None],
) -> Sent:
    """Publish all records; returns when what they bring about is done. Raises `Unavailable`."""
    sent = Sent()
    for slot in slots(pipeline, records):
        if slot.labels:
            ends = await send_all(producer, (record[1:] for record in slot.labels))
            await pace.sent(ends, "label")
        if slot.events:
            ends = await send_all(producer, (record[1:] for record in slot.events))
            await pace.sent(ends, "score")
            await pace.settled()
        sent.events += len(slot.events)
        sent.labels += len(slot.labels)
        sent.at = (slot.events or slot.labels)[-1].at
        show(sent)
    return sent
