"""What labellers send in earnest: in any order, unit and number, and records that are none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise, permutations
from typing import Any

import orjson
import pytest
import structlog
from aiokafka import ConsumerRecord

from streams.adapters.memory.labels import MemoryLabelStore
from streams.adapters.memory.state import MemoryFeatureState
from streams.labelling.join import Join
from streams.labelling.processor import Labelling
from streams.ports.batches import MicroBatch
from streams.ports.features import LabelBatch, LabelsFolded
from streams.ports.labels import EventName, Label, ServedEvent
from streams.records import Example, Scored, decoder, encode
from streams.spec import Feedback, LabelRate
from streams.spec.layout import unpack
from streams.testing import Rehearsal
from tests.doubles import LosingState
from tests.unit.pipelines import declare, order
from tests.waiting import until

T0 = 1_700_000_000.0
HOUR, DAY = 3600, 86_400
PIPELINE = declare(feedback=Feedback(horizon="1h", missing=0, keep="30d"))
SCORED, FEEDBACK = PIPELINE.topics.scored, PIPELINE.topics.feedback


def label(number: int, value: float, at: Any, **more: Any) -> dict[str, Any]:
    return {"event_id": f"o{number}", "label": value, "labelled_at": at, **more}


async def example_of(*labels: dict[str, Any]) -> Example:
    """What the first event's example is after these labels, one after the other."""
    rehearsal = Rehearsal(PIPELINE)
    await rehearsal.score([order(1, T0)])
    for one in labels:
        assert (await rehearsal.label([one])).dead_letters == []
    [example] = (await rehearsal.score([order(2, T0 + 2 * HOUR)])).examples
    return example


@pytest.mark.parametrize("words", list(permutations([(1, 1), (0, 3), (1, 5)])))
async def test_the_word_that_was_known_last_counts_in_any_order(words: Any) -> None:
    example = await example_of(*(label(1, value, T0 + at) for value, at in words))
    assert (example.label, example.labelled_at) == (1.0, T0 + 5)


@pytest.mark.parametrize(
    ("said", "found"), [("fraud", 1.0), ("genuine", 0.0), (True, 1.0), (False, 0.0), (1, 1.0)]
)
async def test_a_label_is_a_class_by_its_name_or_index_or_true(said: Any, found: float) -> None:
    feedback = Feedback(horizon="1h", missing=0, keep="30d", classes=("genuine", "fraud"))
    rehearsal = Rehearsal(declare(feedback=feedback))
    await rehearsal.score([order(1, T0)])
    assert (await rehearsal.label([label(1, said, T0)])).dead_letters == []
    [example] = (await rehearsal.score([order(2, T0 + 2 * HOUR)])).examples
    assert (example.label, example.origin) == (found, "feedback")


async def test_a_label_that_is_no_class_says_which_there_are() -> None:
    rehearsal = Rehearsal(PIPELINE)
    await rehearsal.score([order(1, T0)])
    [letter] = (await rehearsal.label([label(1, "fraud", T0)])).dead_letters  # type: ignore[arg-type]
    assert letter["cause"] == "label"
    assert letter["detail"] == "'fraud' is no class, those are negative, positive"


@pytest.mark.parametrize("factor", [1, 1e3, 1e6, 1e9])
async def test_a_label_is_dated_in_any_unit(factor: float) -> None:
    example = await example_of(label(1, 1, int(T0 * factor)), label(1, 0, "2023-11-14T22:13:21Z"))
    assert (example.label, example.labelled_at) == (0.0, T0 + 1)


async def test_a_label_from_the_future_is_a_dead_letter_and_blocks_no_correction() -> None:
    rehearsal = Rehearsal(PIPELINE)
    await rehearsal.score([order(1, T0)], written_at=T0)
    ahead = await rehearsal.label([label(1, 1, "2099-01-01")], written_at=T0 + 5)
    [letter] = ahead.dead_letters
    assert letter["cause"] == "time"
    assert "1d after the record was written" in letter["detail"]
    await rehearsal.label([label(1, 1, T0 + 10)], written_at=T0 + 10)
    await rehearsal.label([label(1, 0, T0 + 20)], written_at=T0 + 20)
    later = await rehearsal.score([order(2, T0 + 2 * HOUR)], written_at=T0 + 2 * HOUR)
    assert [(e.event_id, e.label) for e in later.examples] == [("o1", 0.0)]


async def test_an_id_of_two_keys_is_two_events_each_with_its_own_label() -> None:
    rehearsal = Rehearsal(PIPELINE)
    await rehearsal.score([order(1, T0), order(1, T0 + 1, shopper="bob")])
    await rehearsal.label([label(1, 1, T0 + 2, key="bob")])
    later = await rehearsal.score([order(2, T0 + 2 * HOUR)])
    assert [(e.key, e.label) for e in later.examples] == [("ann", 0.0), ("bob", 1.0)]


async def test_an_event_whose_clock_is_fast_makes_no_other_mature() -> None:
    dice = random.Random(7)
    rehearsal = Rehearsal(PIPELINE)
    fraud = [dice.random() < 0.2 for _ in range(300)]
    examples: list[Example] = []
    for minute in range(300):
        now = T0 + 60 * minute
        events = [order(minute, now)]
        if minute == 30:
            events.append({**order(1000, now + 20 * HOUR), "shopper": "bob"})
        examples += (await rehearsal.score(events, written_at=now)).examples
        known = minute - 45
        if known >= 0 and fraud[known]:
            await rehearsal.label([label(known, 1, now)], written_at=now)
    assert len(examples) == 239
    assert {e.origin for e in examples} == {"feedback", "horizon"}
    assert [e.label for e in examples] == [float(fraud[int(e.event_id[1:])]) for e in examples]


async def test_whole_numbers_may_name_events() -> None:
    rehearsal = Rehearsal(PIPELINE)
    await rehearsal.score([{**order(1, T0), "order_id": "1161888007138312193"}])
    await rehearsal.label([{**label(1, 1, T0), "event_id": 1161888007138312193}])
    [example] = (await rehearsal.score([order(2, T0 + 2 * HOUR)])).examples
    assert example.label == 1.0


def records(topic: str, *values: bytes | None, first: int = 0) -> list[ConsumerRecord[Any, Any]]:
    return [
        ConsumerRecord(topic, 0, first + i, 0, 0, b"ann", value, None, 0, 0, ())
        for i, value in enumerate(values)
    ]


def scored(number: int, at: float = T0) -> bytes:
    return encode(Scored(f"o{number}", at, {"shopper": "ann"}, bytes(4), 0.5, 1))


GARBAGE = (
    (b"{", "malformed"),
    (b"\xff\xfe", "malformed"),
    (b"[]", "invalid"),
    (b'{"event_id": "o1"}', "invalid"),
    (encode(Scored("o1", -1.0, {}, b"", 0.5, 1)), "time"),
    (encode(Scored("o1", 1e300, {}, b"", 0.5, 1)), "time"),
    (b"", "empty"),
    (b"[" * 100_000, "invalid"),
)


@pytest.mark.parametrize(("value", "cause"), GARBAGE)
def test_a_record_of_what_was_served_that_is_none_is_set_aside(value: bytes, cause: str) -> None:
    join = Join(PIPELINE, MemoryLabelStore())
    joined = join.take(records(SCORED, scored(1), value, scored(2, T0 + 2 * HOUR)))
    assert [error.cause for _, error in joined.rejected] == [cause]
    assert len(joined.examples) == 1
    assert join.replay(SCORED, records(SCORED, value, first=3)) == []


def test_a_label_that_comes_first_is_counted_again_when_its_event_comes() -> None:
    join = Join(PIPELINE, MemoryLabelStore())
    join.take(records(FEEDBACK, orjson.dumps({"event_id": "o1", "label": 1, "labelled_at": T0})))
    assert join.outcomes() == {"unmatched": 1}
    join.take(records(SCORED, scored(1)))
    assert join.outcomes() == {"awaited": 1, "joined": 1}


def test_a_tombstone_of_what_was_served_is_passed_over() -> None:
    join = Join(PIPELINE, MemoryLabelStore())
    joined = join.take(records(SCORED, None, scored(1), None, scored(2, T0 + 2 * HOUR), None))
    assert (len(joined.examples), joined.rejected) == (1, [])
    join.commit()
    assert join.label_changes(records(SCORED, None, b"{", scored(1)), lambda *_: True) == []


class Poisoned(MemoryLabelStore):
    """Fails when it is asked for one event; or for all."""

    broken = False

    def entries(self, names: Iterable[EventName]) -> list[ServedEvent | None]:
        names = list(names)
        if self.broken or EventName(b"ann", "o13") in names:
            raise OverflowError("unlucky")
        return super().entries(names)


@pytest.mark.parametrize("size", [14, 40])
def test_an_error_that_nobody_foresaw_costs_its_record_and_changes_nothing_else(size: int) -> None:
    join, calm = Join(PIPELINE, Poisoned()), Join(PIPELINE, MemoryLabelStore())
    labels = [orjson.dumps(label(n, 1, T0 + n)) for n in range(size)]
    events = [scored(n, T0 + 600 * n) for n in range(size)]
    for topic, values in ((FEEDBACK, labels), (SCORED, events)):
        joined = join.take(records(topic, *values))
        [(record, error)] = joined.rejected
        assert (record.offset, error.cause, error.detail) == (
            13,
            "failed",
            "OverflowError: unlucky",
        )
        expected = calm.take(records(topic, *values[:13], *values[14:]))
        assert joined.examples == expected.examples
        assert len(joined.changes) == len(expected.changes)
    assert join.outcomes() == calm.outcomes()


def test_an_error_of_the_store_is_no_records() -> None:
    store = Poisoned()
    join = Join(PIPELINE, store)
    store.broken = True
    with pytest.raises(OverflowError, match="unlucky"):
        join.take(records(FEEDBACK, orjson.dumps(label(1, 1, T0))))


@pytest.mark.parametrize("first", ["label", "event"])
def test_a_flood_of_labels_for_one_event_is_bounded_and_the_last_counts(first: str) -> None:
    store = MemoryLabelStore()
    join = Join(PIPELINE, store)
    flood = [orjson.dumps(label(1, n % 2, T0 + n)) for n in range(5000)]
    changes = []
    if first == "event":
        join.take(records(SCORED, scored(1)))
    changes += join.take(records(FEEDBACK, *flood)).changes
    changes += join.take(records(SCORED, scored(1), scored(2, T0 + DAY))).changes
    join.commit()
    [served] = store.entries([EventName(b"ann", "o1")])
    assert served is not None
    assert len(served.labels) <= 16
    assert served.labels[-1].value == 1.0
    assert sum(one.change for one in changes) == 1.0
    every: Callable[[Any, Label], bool] = lambda record, one: one.offset == record.offset  # noqa: E731
    kept = records(FEEDBACK, *flood)[served.labels[0].offset :]
    found = [one.change for one in join.label_changes(kept, every)]
    values = [served.dropped, *(one.value for one in served.labels)]
    assert found == [after - before for before, after in pairwise(values)]


def test_examples_are_read_as_they_were_written() -> None:
    join = Join(PIPELINE, MemoryLabelStore())
    old = orjson.dumps({**orjson.loads(scored(1)), "entities": ["ann"]})
    joined = join.take(records(SCORED, old, scored(2, T0 + 2 * HOUR)))
    [(_, value, _)] = joined.examples
    assert decoder(Example).decode(value or b"").event_id == "o1"


async def test_labels_wait_until_the_feature_state_has_their_events_again() -> None:
    """Redis was emptied: the labeller opens first, the scorer brings the events back later."""
    label_rate = PIPELINE.feature_names.index("refund_rate")
    state = MemoryFeatureState(PIPELINE.plan)
    log: dict[str, list[Any]] = {SCORED: [], FEEDBACK: []}
    before = Rehearsal(PIPELINE)
    events = [order(n, T0 + n) for n in range(4)]
    log[SCORED] = records(SCORED, *(encode(one) for one in (await before.score(events)).scored))
    log[FEEDBACK] = records(FEEDBACK, *(orjson.dumps(label(n, 1, T0 + n)) for n in range(4)))

    async def read(topic: str, partition: int, first: int, end: int) -> Any:
        yield log[topic][first:end]

    async def scored_to(partition: int) -> int:
        return 4

    labelling = Labelling(PIPELINE, 0, MemoryLabelStore, state, read, scored_to=scored_to)
    with structlog.testing.capture_logs() as lines:
        opening = asyncio.create_task(labelling.open({SCORED: 4, FEEDBACK: 4}))
        await until(lambda: any("feature state lacks events" in one["event"] for one in lines))
        again = Rehearsal(PIPELINE, state=state)
        await again.score(events)
        await asyncio.wait_for(opening, 10)
    [later] = (await again.score([order(9, T0 + 2 * HOUR)])).scored
    assert unpack([later.vector])[0, label_rate] == 1.0


async def test_labels_that_the_feature_state_loses_come_back_though_no_record_comes() -> None:
    label_rate = PIPELINE.feature_names.index("refund_rate")
    events = [order(n, T0 + n) for n in range(4)]
    said = [orjson.dumps(label(n, 1, T0 + n)) for n in range(4)]
    before = Rehearsal(PIPELINE)
    served = [encode(one) for one in (await before.score(events)).scored]
    log = {SCORED: records(SCORED, *served), FEEDBACK: records(FEEDBACK, *said)}

    async def read(topic: str, partition: int, first: int, end: int) -> Any:
        yield log[topic][first:end]

    async def scored_to(partition: int) -> int:
        return 4

    state = LosingState(MemoryFeatureState(PIPELINE.plan))
    await Rehearsal(PIPELINE, state=state).score(events)
    labelling = Labelling(PIPELINE, 0, MemoryLabelStore, state, read, "ids", scored_to)
    await labelling.open({})
    await labelling.process(MicroBatch(SCORED, 0, log[SCORED], 0, 0))
    await labelling.process(MicroBatch(FEEDBACK, 0, log[FEEDBACK][:2], 0, 0))
    await labelling.commit()
    await labelling.process(MicroBatch(FEEDBACK, 0, log[FEEDBACK][2:], 2, 2))  # not committed yet

    state.held = MemoryFeatureState(PIPELINE.plan)
    again = Rehearsal(PIPELINE, state=state)
    restoring = asyncio.create_task(labelling.restore())
    await again.score(events)
    await asyncio.wait_for(restoring, 10)
    [half] = (await again.score([order(8, T0 + 2 * HOUR)])).scored
    assert unpack([half.vector])[0, label_rate] == 0.5
    await labelling.restore()  # there is nothing to do
    await labelling.commit()
    [whole] = (await again.score([order(9, T0 + 2 * HOUR)])).scored
    assert unpack([whole.vector])[0, label_rate] == 1.0


class BusyState(LosingState):
    """Does something else while it folds labels."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def fold_labels(self, batch: LabelBatch) -> LabelsFolded:
        folded = await super().fold_labels(batch)
        if self.meanwhile is not None:
            do, self.meanwhile = self.meanwhile, None
            await do()
        return folded


async def test_labels_that_come_while_others_are_restored_are_folded_once_they_are_committed() -> (
    None
):
    label_rate = PIPELINE.feature_names.index("refund_rate")
    events = [order(n, T0 + n) for n in range(4)]
    said = [orjson.dumps(label(n, 1, T0 + n)) for n in range(4)]
    served = [encode(one) for one in (await Rehearsal(PIPELINE).score(events)).scored]
    log = {SCORED: records(SCORED, *served), FEEDBACK: records(FEEDBACK, *said)}

    async def read(topic: str, partition: int, first: int, end: int) -> Any:
        yield log[topic][first:end]

    state = BusyState(MemoryFeatureState(PIPELINE.plan))
    await Rehearsal(PIPELINE, state=state).score(events)
    labelling = Labelling(PIPELINE, 0, MemoryLabelStore, state, read, "ids")
    await labelling.open({})
    await labelling.process(MicroBatch(SCORED, 0, log[SCORED], 0, 0))
    await labelling.process(MicroBatch(FEEDBACK, 0, log[FEEDBACK][:2], 0, 0))
    await labelling.commit()

    state.held = MemoryFeatureState(PIPELINE.plan)
    again = Rehearsal(PIPELINE, state=state)
    await again.score(events)
    later = MicroBatch(FEEDBACK, 0, log[FEEDBACK][2:], 2, 2)
    state.meanwhile = lambda: labelling.process(later)
    await labelling.restore()
    [half] = (await again.score([order(8, T0 + 2 * HOUR)])).scored
    assert unpack([half.vector])[0, label_rate] == 0.5
    await labelling.commit()
    [whole] = (await again.score([order(9, T0 + 2 * HOUR)])).scored
    assert unpack([whole.vector])[0, label_rate] == 1.0


async def test_a_labeller_that_is_closed_does_not_wait_for_lost_events_any_more() -> None:
    async def read(topic: str, partition: int, first: int, end: int) -> Any:
        return
        yield

    async def scored_to(partition: int) -> int:
        return 4  # nobody will fold them

    state = LosingState(MemoryFeatureState(PIPELINE.plan))
    await state.reposition(0, 4)
    labelling = Labelling(PIPELINE, 0, MemoryLabelStore, state, read, scored_to=scored_to)
    await labelling.open({SCORED: 4, FEEDBACK: 4})
    state.held = MemoryFeatureState(PIPELINE.plan)
    with structlog.testing.capture_logs() as lines:
        restoring = asyncio.create_task(labelling.restore())
        await until(lambda: any("feature state lacks events" in one["event"] for one in lines))
        await labelling.close()
        await asyncio.wait_for(restoring, 10)
    await labelling.restore()  # of one that is closed


async def test_events_that_were_served_before_a_key_had_label_windows_are_in_none_of_it() -> None:
    counts = {
        "features": [
            LabelRate(key="shopper", over="1d", delay="1h"),
            LabelRate(key="amount", over="1d", delay="1h"),
        ]
    }
    pipeline = declare(**counts, feedback=PIPELINE.feedback)
    state = MemoryFeatureState(pipeline.plan)
    rehearsal = Rehearsal(pipeline, state=state)
    await rehearsal.score([order(1, T0), order(2, T0 + 1)])
    # as it was when only the shopper had label windows, in both ways of writing it
    old = [
        encode(Scored(f"o{number}", T0 + number, entities, bytes(8), 0.5, 1))
        for number, entities in ((8, {"shopper": "ann"}), (9, ["ann"]))
    ]

    async def nothing(*_: Any) -> Any:
        return
        yield

    labelling = Labelling(pipeline, 0, MemoryLabelStore, state, nothing)
    await labelling.open({})
    labels = [orjson.dumps(label(number, 1, T0)) for number in (8, 9)]
    for topic, values in ((SCORED, old), (FEEDBACK, labels)):
        found = records(topic, *values)
        await labelling.process(MicroBatch(topic, 0, found, 0, 0))
    await labelling.commit()
