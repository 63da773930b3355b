"""Records by slot of event time, labels apart from events; every record once, in order."""

from __future__ import annotations

from tests.unit.pipelines import declare
from workers.operations.files import TimedRecord
from workers.replays.feeding import slots

PIPELINE = declare()
SPAN = PIPELINE.policies.retrain.every_seconds / 8


def record(at: float, topic: str) -> TimedRecord:
    return TimedRecord(at, topic, b"key", str(at).encode())


def test_a_slot_is_an_eighth_of_the_time_between_two_candidates() -> None:
    events, labels = PIPELINE.topics.events, PIPELINE.topics.feedback
    given = [
        record(0.0, events),
        record(SPAN / 2, labels),
        record(SPAN - 1, events),
        record(SPAN, events),
        record(5 * SPAN, labels),  # nothing in between: no slot
    ]
    found = list(slots(PIPELINE, given))
    assert [[one.at for one in slot.events] for slot in found] == [[0.0, SPAN - 1], [SPAN], []]
    assert [[one.at for one in slot.labels] for slot in found] == [[SPAN / 2], [], [5 * SPAN]]
