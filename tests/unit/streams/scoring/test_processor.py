"""The scoring path in memory: one prediction per good event, whatever else is in its batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any

import numpy as np
import orjson
import pytest
import structlog
from aiokafka import ConsumerRecord
from numpy.typing import NDArray

from streams.adapters.memory.scorer import FixedChampion, MemoryScorer
from streams.adapters.memory.state import MemoryFeatureState
from streams.ports.batches import MicroBatch
from streams.ports.models import Beside
from streams.records import CANARY, Prediction, Scored, decoder
from streams.scoring.partition import PartitionScoring
from streams.scoring.processor import Scoring
from streams.spec import Columns, Decision, Fallback, Feedback, Policies, Transform
from streams.spec.layout import unpack
from streams.testing import Rehearsal
from tests.doubles import LosingState
from tests.unit.pipelines import declare, order


async def nothing(*_: Any) -> AsyncIterator[list[ConsumerRecord]]:
    return
    yield


T0 = 1_700_000_000.0


def basket(number: int, at: float = T0, **changes: Any) -> dict[str, Any]:
    return order(number, at, basket=1, **changes)


def network(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """A score that tells the amount: 10 gives 0.1."""
    return vectors[:, :1] / np.float32(100)


async def test_before_the_first_version_the_fallback_answers_marked_degraded() -> None:
    pipeline = declare(policies=Policies(fallback=Fallback(score=0.25)))
    [prediction] = (await Rehearsal(pipeline).score([basket(1)])).predictions
    assert (prediction.score, prediction.version, prediction.degraded) == (0.25, 0, True)


async def test_a_version_answers_with_its_score_and_its_decision() -> None:
    pipeline = declare(decision=Decision(threshold=0.3, classes=("keep", "check")))
    result = await Rehearsal(pipeline, network).score(
        [basket(1, amount=20), basket(2, T0 + 1, amount=30)]
    )
    assert [(p.event_id, f"{p.score:.3f}", p.decision, p.version) for p in result.predictions] == [
        ("o1", "0.200", "keep", 1),
        ("o2", "0.300", "check", 1),
    ]
    assert [p.id for p in result.predictions] == ["0-0", "0-1"]
    assert not any(p.degraded for p in result.predictions)


async def test_many_outputs_decide_for_the_best_class() -> None:
    from streams.spec import Model

    def three(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.tile(np.array([0.1, 0.7, 0.2], np.float32), (len(vectors), 1))

    pipeline = declare(
        model=Model(network=lambda features: features, outputs=3),
        decision=Decision(classes=("a", "b", "c")),
        feedback=Feedback(horizon="1h", classes=("a", "b", "c")),
    )
    [prediction] = (await Rehearsal(pipeline, three).score([basket(1)])).predictions
    assert prediction.decision == "b"
    assert prediction.score == pytest.approx([0.1, 0.7, 0.2])


async def test_bad_events_and_repeated_ones_cost_nobody_else() -> None:
    events: list[dict[str, Any] | bytes] = [
        basket(1),
        b"{",
        basket(1),
        basket(2, T0 + 1),
        {**basket(3), "amount": "x"},
    ]
    with structlog.testing.capture_logs() as lines:
        result = await Rehearsal(declare(), network).score([*events, basket(1)])
    assert [line["id"] for line in lines if "came before" in line["event"]] == ["o1"]
    assert [p.event_id for p in result.predictions] == ["o1", "o2"]
    assert [letter["cause"] for letter in result.dead_letters] == ["malformed", "invalid"]
    assert [letter["offset"] for letter in result.dead_letters] == ["1", "4"]


async def test_windows_count_each_event_once_and_only_good_ones() -> None:
    pipeline = declare()
    count = pipeline.feature_names.index("shopper_count_1h")
    rehearsal = Rehearsal(pipeline)
    first = await rehearsal.score([basket(1), b"{", basket(2, T0 + 1), basket(2, T0 + 1)])
    second = await rehearsal.score([basket(1), basket(4, T0 + 2)])
    assert unpack([s.vector for s in first.scored])[:, count].tolist() == [1.0, 2.0]
    assert unpack([s.vector for s in second.scored])[:, count].tolist() == [3.0]


async def test_an_event_on_which_a_transform_fails_is_a_dead_letter_and_is_not_counted() -> None:
    def picky(columns: Columns) -> NDArray[np.float64]:
        if (columns["amount"] == 13).any():
            raise ValueError("unlucky")
        return np.asarray(columns["amount"], np.float64)

    base = declare()
    pipeline = declare(features=[*base.features, Transform("picky", picky)])
    count = pipeline.feature_names.index("shopper_count_1h")
    result = await Rehearsal(pipeline).score(
        [basket(1), basket(2, T0 + 1, amount=13), basket(3, T0 + 2)]
    )
    assert unpack([s.vector for s in result.scored])[:, count].tolist() == [1.0, 2.0]
    [letter] = result.dead_letters
    assert letter["cause"] == "feature"
    assert "unlucky" in letter["detail"]


async def test_a_feature_that_is_not_finite_is_a_dead_letter() -> None:
    def log_amount(columns: Columns) -> NDArray[np.float64]:
        with np.errstate(divide="ignore"):
            found: NDArray[np.float64] = np.log(columns["amount"])
        return found

    base = declare()
    pipeline = declare(features=[*base.features, Transform("log_amount", log_amount)])
    result = await Rehearsal(pipeline).score([basket(1), basket(2, T0 + 1, amount=0)])
    assert [p.event_id for p in result.predictions] == ["o1"]
    assert [letter["cause"] for letter in result.dead_letters] == ["not-finite"]


async def test_events_that_the_feature_state_loses_under_a_running_worker_come_back() -> None:
    pipeline = declare()
    values = [orjson.dumps(basket(n, T0 + n)) for n in range(9)]
    topic = pipeline.topics.events
    records: list[Any] = [
        ConsumerRecord(topic, 0, i, 0, 0, b"ann", value, None, 0, 0, ())
        for i, value in enumerate(values)
    ]

    async def read(topic: str, partition: int, first: int, end: int) -> Any:
        yield records[first:end]

    async def score(first: int, end: int, committed: int) -> Any:
        return await scoring.process(MicroBatch(topic, 0, records[first:end], first, committed))

    undisturbed = await Rehearsal(pipeline).score(values)
    for lost in (MemoryFeatureState(pipeline.plan), None):
        state = LosingState(MemoryFeatureState(pipeline.plan))
        scorer = MemoryScorer({})
        scoring = Scoring(pipeline, state, scorer, FixedChampion(0), read).partition(0)
        await score(0, 3, 0)
        earlier = lost or deepcopy(state.held)  # all of it, or what came after the first batch
        await score(3, 6, 0)
        state.held = earlier
        outputs = await score(6, 9, 3)
        found = [decoder(Scored).decode(value) for _, value, _ in outputs[pipeline.topics.scored]]
        assert [one.vector for one in found] == [one.vector for one in undisturbed.scored[6:]]
        # what is uncommitted can still be asked for again
        again = await score(3, 9, 3)
        assert len(again[pipeline.topics.predictions]) == 6


def records_of(partition: int, *values: bytes) -> list[ConsumerRecord]:
    return [
        ConsumerRecord("t", partition, i, 0, 0, b"k", value, None, 0, 0, ())
        for i, value in enumerate(values)
    ]


async def test_partitions_that_ask_at_the_same_moment_are_scored_as_one_each_with_its_own() -> None:
    pipeline = declare()
    good = [orjson.dumps(basket(n, T0 + n, amount=n)) for n in range(6)]
    given = [(good[0], b"{", good[1]), (good[2],), (b"[]",), (good[3], good[3], good[4])]
    batches = [
        MicroBatch(pipeline.topics.events, number, records_of(number, *values), 0, 0)
        for number, values in enumerate(given)
    ]

    def lanes(asked: list[int]) -> list[PartitionScoring]:
        def counting(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
            asked.append(len(vectors))
            return network(vectors)

        state, scorer = MemoryFeatureState(pipeline.plan), MemoryScorer({1: counting})
        scoring = Scoring(pipeline, state, scorer, FixedChampion(1), nothing)
        return [scoring.partition(number) for number in range(len(batches))]

    alone, together = list[int](), list[int]()
    apart = [await lane.process(batch) for lane, batch in zip(lanes(alone), batches, strict=True)]
    joint = await asyncio.gather(
        *(lane.process(batch) for lane, batch in zip(lanes(together), batches, strict=True))
    )
    assert joint == apart
    assert [[len(records) for records in outputs.values()] for outputs in joint] == [
        [2, 2, 1],
        [1, 1, 0],
        [0, 0, 1],
        [2, 2, 0],
    ]
    assert together == [sum(alone)]


@pytest.mark.parametrize("beside", [None, Beside(2, 0.5, CANARY, 2, 0.5)])
async def test_records_name_their_arm_while_there_are_arms_and_cost_nothing_else(
    beside: Beside | None,
) -> None:
    pipeline = declare()
    values = [orjson.dumps(basket(n, T0 + n, shopper=f"s{n}")) for n in range(40)]
    keyed: list[Any] = [
        ConsumerRecord("t", 0, n, 0, 0, b"s%d" % n, value, None, 0, 0, ())
        for n, value in enumerate(values)
    ]
    state, scorer = MemoryFeatureState(pipeline.plan), MemoryScorer({1: network, 2: network})
    scoring = Scoring(pipeline, state, scorer, FixedChampion(1, 0.5, beside), nothing).partition(0)
    outputs = await scoring.process(MicroBatch(pipeline.topics.events, 0, keyed, 0, 0))
    for topic, kind in (
        (pipeline.topics.predictions, Prediction),
        (pipeline.topics.scored, Scored),
    ):
        texts = [value or b"" for _, value, _ in outputs[topic]]
        found = [decoder(kind).decode(text) for text in texts]
        if beside is None:
            assert not any(b"arm" in text or b"propensity" in text for text in texts)
            assert {(one.arm, one.propensity) for one in found} == {("champion", 1.0)}
        else:
            assert {(one.arm, one.version, one.propensity) for one in found} == {
                ("champion", 1, 0.5),
                (CANARY, 2, 0.5),
            }
