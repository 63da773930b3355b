"""The late-label join: any order, duplicates, corrections, late and unmatched labels."""

from __future__ import annotations

import struct
from copy import deepcopy
from typing import Any

import numpy as np
import orjson
import pytest
from aiokafka import ConsumerRecord

from streams.adapters.memory.labels import MemoryLabelStore
from streams.adapters.memory.state import MemoryFeatureState
from streams.errors import TooManyInvalid
from streams.labelling.processor import Labelling
from streams.ports.batches import MicroBatch
from streams.ports.features import LabelBatch
from streams.ports.labels import Changes, ServedEvent
from streams.records import Scored, encode
from streams.spec import Feedback, Invalid, Policies
from streams.spec.layout import unpack
from streams.testing import Rehearsal
from tests.doubles import LosingState
from tests.unit.pipelines import declare, order

T0 = 1_700_000_000.0
HOUR = 3600


def label(number: int, value: float, at: float) -> dict[str, Any]:
    return {"event_id": f"o{number}", "label": value, "labelled_at": at}


def basket(number: int, at: float) -> dict[str, Any]:
    return order(number, at, basket=1)


async def test_an_example_is_written_when_the_horizon_has_passed_not_before() -> None:
    rehearsal = Rehearsal(declare())
    assert (await rehearsal.score([basket(1, T0), basket(2, T0 + 60)])).examples == []
    assert (await rehearsal.label([label(1, 1, T0 + 100)])).examples == []
    at_the_edge = await rehearsal.score([basket(3, T0 + HOUR)])
    assert at_the_edge.examples == []
    later = await rehearsal.score([basket(4, T0 + HOUR + 61)])
    assert [(e.event_id, e.label, e.origin) for e in later.examples] == [
        ("o1", 1.0, "feedback"),
        ("o2", 0.0, "horizon"),
    ]
    assert later.examples[0].labelled_at == T0 + 100
    assert later.examples[1].labelled_at == T0 + 60 + HOUR


async def test_the_example_is_what_was_served() -> None:
    rehearsal = Rehearsal(declare())
    served = (await rehearsal.score([basket(1, T0)])).scored[0]
    [example] = (await rehearsal.score([basket(2, T0 + HOUR + 1)])).examples
    assert (example.vector, example.score, example.version) == (
        served.vector,
        served.score,
        served.version,
    )
    assert example.key == "ann"


async def test_without_a_meaning_of_no_label_only_labelled_events_become_examples() -> None:
    rehearsal = Rehearsal(declare(feedback=Feedback(horizon="1h", missing=None, keep="1h")))
    await rehearsal.score([basket(1, T0), basket(2, T0)])
    await rehearsal.label([label(1, 0, T0)])
    later = await rehearsal.score([basket(3, T0 + HOUR + 1)])
    assert [e.event_id for e in later.examples] == ["o1"]
    late = await rehearsal.label([label(2, 0, T0 + HOUR + 2)])
    assert [(e.event_id, e.origin) for e in late.examples] == [("o2", "correction")]


async def test_a_label_before_its_event_waits_for_it() -> None:
    rehearsal = Rehearsal(declare())
    assert (await rehearsal.label([{**label(1, 1, T0 - 5), "key": "ann"}])).examples == []
    await rehearsal.score([basket(1, T0)])
    [example] = (await rehearsal.score([basket(2, T0 + HOUR + 1)])).examples
    assert (example.event_id, example.label) == ("o1", 1.0)


async def test_a_label_said_twice_counts_once() -> None:
    rehearsal = Rehearsal(declare())
    await rehearsal.score([basket(1, T0)])
    await rehearsal.label([label(1, 1, T0 + 1), label(1, 1, T0 + 1)])
    await rehearsal.label([label(1, 1, T0 + 2)])
    later = await rehearsal.score([basket(2, T0 + HOUR + 1)])
    assert len(later.examples) == 1
    assert (await rehearsal.label([label(1, 1, T0 + 9000)])).examples == []


async def test_a_correction_replaces_the_label_before_and_after_maturity() -> None:
    rehearsal = Rehearsal(declare())
    await rehearsal.score([basket(1, T0)])
    await rehearsal.label([label(1, 1, T0 + 1), label(1, 0, T0 + 2)])
    [example] = (await rehearsal.score([basket(2, T0 + HOUR + 1)])).examples
    assert example.label == 0.0
    [correction] = (await rehearsal.label([label(1, 1, T0 + HOUR + 5)])).examples
    assert (correction.label, correction.origin) == (1.0, "correction")


async def test_the_later_word_wins_however_they_arrive() -> None:
    rehearsal = Rehearsal(declare())
    await rehearsal.score([basket(1, T0)])
    await rehearsal.label([label(1, 0, T0 + 20), label(1, 1, T0 + 10)])
    [example] = (await rehearsal.score([basket(2, T0 + HOUR + 1)])).examples
    assert example.label == 0.0


async def test_a_late_label_that_says_what_absence_meant_changes_nothing() -> None:
    rehearsal = Rehearsal(declare())
    await rehearsal.score([basket(1, T0), basket(2, T0 + HOUR + 1)])
    assert (await rehearsal.label([label(1, 0, T0 + HOUR + 2)])).examples == []
    [late] = (await rehearsal.label([label(1, 1, T0 + HOUR + 3)])).examples
    assert late.origin == "correction"


async def test_labels_reach_the_windows_only_after_they_arrive() -> None:
    rehearsal = Rehearsal(declare())
    rate = declare().feature_names.index("refund_rate")
    await rehearsal.score([basket(1, T0)])
    before = await rehearsal.score([basket(2, T0 + HOUR + 10)])
    await rehearsal.label([label(1, 1, T0 + HOUR + 20)])
    after = await rehearsal.score([basket(3, T0 + HOUR + 30)])
    assert unpack([before.scored[0].vector])[0, rate] == 0.0
    assert unpack([after.scored[0].vector])[0, rate] == 1.0
    await rehearsal.label([label(1, 0, T0 + HOUR + 40)])
    corrected = await rehearsal.score([basket(4, T0 + HOUR + 50)])
    assert unpack([corrected.scored[0].vector])[0, rate] == 0.0


async def test_events_beyond_keep_are_forgotten() -> None:
    rehearsal = Rehearsal(declare())
    await rehearsal.score([basket(1, T0)])
    await rehearsal.score([basket(2, T0 + 3 * HOUR)])
    result = await rehearsal.label([label(1, 1, T0 + 3 * HOUR)])
    assert result.examples == []


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        ({"event_id": "o1", "label": 7, "labelled_at": T0}, "label"),
        ({"event_id": "o1", "label": 0.5, "labelled_at": T0}, "label"),
        ({"event_id": "o1", "label": "yes", "labelled_at": T0}, "label"),
        ({"event_id": "o1", "label": [1], "labelled_at": T0}, "invalid"),
        ({"event_id": "o1", "labelled_at": T0}, "invalid"),
        ({"event_id": "o1", "label": 1, "labelled_at": "yesterday"}, "time"),
        ({"event_id": [5], "label": 1, "labelled_at": T0}, "invalid"),
        ({"event_id": "o1", "label": 1, "labelled_at": 12345}, "time"),
        ({"event_id": "o1", "label": 1, "labelled_at": "1999-12-31T23:59:59Z"}, "time"),
        ({"event_id": "o1", "label": 1, "labelled_at": "2107-01-01"}, "time"),
        ({"event_id": "o1", "label": 1, "labelled_at": 10**400}, "invalid"),
        ({"event_id": "o1", "label": 10**400, "labelled_at": T0}, "invalid"),
    ],
)
async def test_a_bad_label_is_a_dead_letter_and_costs_no_other(
    bad: dict[str, Any], cause: str
) -> None:
    rehearsal = Rehearsal(declare())
    await rehearsal.score([basket(1, T0)])
    result = await rehearsal.label([bad, label(1, 1, T0)])
    assert [letter["cause"] for letter in result.dead_letters] == [cause]
    [example] = (await rehearsal.score([basket(2, T0 + HOUR + 1)])).examples
    assert example.label == 1.0


async def test_too_much_bad_feedback_stops_the_labeller_before_it_is_written() -> None:
    rehearsal = Rehearsal(declare(policies=Policies(invalid=Invalid(0.5, 4))))
    await rehearsal.score([basket(n, T0) for n in range(4)])  # good records of another topic
    assert len((await rehearsal.label([{"label": "?"}, {}, label(1, 1, T0)])).dead_letters) == 2
    with pytest.raises(TooManyInvalid, match=r"75% of the last 4 records of \S+\.feedback"):
        await rehearsal.label([{}])


async def test_labels_that_the_feature_state_lost_are_added_again_once() -> None:
    pipeline = declare()
    rate = pipeline.feature_names.index("refund_rate")
    feedback = [label(1, 1, T0 + 1), label(2, 1, T0 + 2), label(1, 0, T0 + 3), label(9, 1, T0)]
    topic = pipeline.topics.feedback
    records: list[Any] = [
        ConsumerRecord(topic, 0, i, 0, 0, b"ann", orjson.dumps(value), None, 0, 0, ())
        for i, value in enumerate(feedback)
    ]

    async def read(topic: str, partition: int, first: int, end: int) -> Any:
        assert (topic, partition) == (pipeline.topics.feedback, 0)
        yield records[first:end]

    store = MemoryLabelStore()
    served = [ServedEvent(f"o{n}", b"ann", T0, scored(f"o{n}")) for n in (1, 2)]
    before = Labelling(pipeline, 0, lambda: store, MemoryFeatureState(pipeline.plan), read)
    store.write(Changes({s.name: s for s in served}, {}, {}, T0))
    await before.open({})
    await before.process(MicroBatch(pipeline.topics.feedback, 0, records, 0, 0))
    await before.commit()

    state = MemoryFeatureState(pipeline.plan)  # has the events and the first label only
    rehearsal = Rehearsal(pipeline, state=state)
    await rehearsal.score([basket(1, T0), basket(2, T0)])
    await state.fold_labels(
        LabelBatch(
            0,
            1,
            np.array([0]),
            np.array([int(T0)], np.uint32),
            [[b"ann"]],
            np.array([1.0]),
            stream="met",
            note=struct.pack("<QQ", 0, 1),
        )
    )
    after = Labelling(pipeline, 0, lambda: store, state, read)
    await after.open({pipeline.topics.feedback: len(records), pipeline.topics.scored: None})
    late = await rehearsal.score([basket(3, T0 + HOUR + 1)])
    assert unpack([late.scored[0].vector])[0, rate] == pytest.approx(0.5)


async def test_labels_that_the_feature_state_loses_under_a_running_worker_come_back() -> None:
    pipeline = declare()
    rate = pipeline.feature_names.index("refund_rate")
    topics = pipeline.topics
    logs: dict[str, list[Any]] = {topics.scored: [], topics.feedback: []}

    async def read(topic: str, partition: int, first: int, end: int) -> Any:
        yield logs[topic][first:end]

    async def take(topic: str, value: bytes) -> None:
        first = len(logs[topic])
        record = ConsumerRecord(topic, 0, first, 0, 0, b"ann", value, None, 0, 0, ())
        logs[topic].append(record)
        await worker.process(MicroBatch(topic, 0, [record], first, first))
        await worker.commit()

    state = LosingState(MemoryFeatureState(pipeline.plan))
    rehearsal = Rehearsal(pipeline, state=state)
    await rehearsal.score([basket(n, T0) for n in (1, 2, 3, 4)])
    worker = Labelling(pipeline, 0, MemoryLabelStore, state, read)
    await worker.open({})
    for n in (1, 2, 3, 4):
        await take(topics.scored, scored(f"o{n}"))
    await take(topics.feedback, orjson.dumps(label(1, 1, T0 + 1)))
    before = deepcopy(state.held)
    await take(topics.feedback, orjson.dumps(label(2, 1, T0 + 2)))
    state.held = before  # as it was before the last label
    await take(topics.feedback, orjson.dumps(label(3, 1, T0 + 3)))
    late = await rehearsal.score([basket(5, T0 + HOUR + 1)])
    assert unpack([late.scored[0].vector])[0, rate] == pytest.approx(3 / 4)


def scored(event_id: str) -> bytes:
    return encode(Scored(event_id, T0, ["ann"], bytes(4), 0.0, 0))
