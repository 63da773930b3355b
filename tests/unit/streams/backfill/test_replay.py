"""History, a chunk at a time, comes to what an event at a time in the order of time would."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
import pytest
from pydantic import BaseModel

from streams.adapters.memory.labels import MemoryLabelStore
from streams.adapters.memory.state import MemoryFeatureState
from streams.backfill.records import chunks
from streams.backfill.replay import Replay
from streams.ports.batches import OutputRecord
from streams.records import Example, Scored, decoder
from streams.spec import Cleaning, Column, Count, Event, Feedback, LabelRate, Pipeline, Sum
from streams.testing import Rehearsal
from tests.unit.pipelines import declare

T0 = 1_700_000_000.0
HOUR, DAY = 3600, 86_400
WRITTEN = int((T0 + 400 * DAY) * 1000)


class Visit(BaseModel):
    order_id: str
    shopper: str
    basket: int
    amount: float
    at: float


class Told(NamedTuple):
    at: float
    topic: str
    key: bytes
    value: bytes


class Topics:
    """What is written, in memory."""

    def __init__(self) -> None:
        self.held = defaultdict[tuple[str, int], list[OutputRecord]](list)

    async def write(self, topic: str, partition: int, records: list[OutputRecord]) -> int:
        there = self.held[topic, partition]
        there += records
        return len(there) - len(records)

    def of(self, topic: str, record: type[Any], number: int) -> list[Any]:
        decode = decoder(record).decode
        return [decode(value or b"") for _, value, _ in self.held[topic, number]]


def _declare(**changes: Any) -> Pipeline:
    event = Event(Visit, id="order_id", key="shopper", time="at")
    return declare(event=event, cleaning=Cleaning(duplicates="1h"), **changes)


def pipelines() -> dict[str, Pipeline]:
    feedback = Feedback(horizon="2h", missing=0, keep="3d")
    own = Count(key="shopper", over="1h")
    return {
        "labels": _declare(
            features=[own, LabelRate(key="shopper", over="1d", delay="2h", name="rate")],
            feedback=feedback,
        ),
        "labels of no window": _declare(features=[Column("amount"), own], feedback=feedback),
        "shared at once": _declare(
            features=[
                own,
                Sum(key="basket", over="6h", field="amount"),
                LabelRate(key="basket", over="1d", delay="2h", name="rate"),
            ],
            feedback=feedback,
        ),
        "shared later": _declare(
            features=[
                own,
                Count(key="basket", over="1d", delay="3h"),
                LabelRate(key="basket", over="1d", delay="3h", name="rate"),
            ],
            feedback=feedback,
        ),
        "short horizon": _declare(
            features=[own, LabelRate(key="shopper", over="1d", delay="10m", name="rate")],
            feedback=Feedback(horizon="10m", missing=0, keep="3d"),
        ),
    }


def history(pipeline: Pipeline, seed: int, events: int = 400) -> list[Told]:
    """Orders over three days, and labels soon or late, of known and unknown events."""
    chance, told, at = random.Random(seed), list[Told](), T0
    for number in range(events):
        at += chance.expovariate(1 / 400)
        shopper = f"s{chance.randrange(25)}"
        row = {
            "order_id": f"o{number if chance.random() > 0.02 else number // 2}",
            "shopper": shopper,
            "amount": chance.randrange(1, 5000) / 100 if chance.random() > 0.01 else "much",
            "at": at,
            "basket": chance.randrange(40),
        }
        told.append(Told(at, pipeline.topics.events, shopper.encode(), orjson.dumps(row)))
        while chance.random() < 0.4:
            delay = chance.choice((-60, 1, 300, HOUR, 1.5 * HOUR, 3 * HOUR, DAY))
            known = at + delay * chance.choice((1, chance.random()))
            said = {
                "event_id": f"o{number if chance.random() > 0.05 else 'x'}",
                "label": chance.choice((0, 1, 1)),
                "labelled_at": known,
            }
            told.append(Told(known, pipeline.topics.feedback, shopper.encode(), orjson.dumps(said)))
    return sorted(told, key=lambda one: (one.at, one.topic == pipeline.topics.events))


async def replayed(pipeline: Pipeline, told: Sequence[Told], partitions: int, size: int) -> Topics:
    topics, state = Topics(), MemoryFeatureState(pipeline.plan)
    replay = Replay(pipeline, state, lambda _: MemoryLabelStore(), topics, partitions)
    await replay.open()
    for chunk in chunks(told, partitions, WRITTEN, size):
        await replay.take(chunk)
    await replay.close()
    return topics


def by_event(examples: Sequence[Example]) -> dict[str, list[Example]]:
    found = defaultdict[str, list[Example]](list)
    for one in examples:
        found[one.event_id].append(one)
    return found


@pytest.mark.parametrize("name", list(pipelines()))
async def test_it_is_what_streaming_leaves(name: str) -> None:
    pipeline = pipelines()[name]
    told = history(pipeline, 1)
    topics = await replayed(pipeline, told, 1, 200)
    rehearsal = Rehearsal(pipeline)
    scored, examples, letters = list[Scored](), list[Example](), 0
    for one in told:
        row = orjson.loads(one.value)
        if one.topic == pipeline.topics.events:
            made = await rehearsal.score([one.value], written_at=WRITTEN / 1000)
        else:
            given = {"key": one.key.decode(), **row}
            made = await rehearsal.label([given], written_at=WRITTEN / 1000)
        scored += made.scored
        examples += made.examples
        letters += len(made.dead_letters)
    ours = topics.of(pipeline.topics.scored, Scored, 0)
    assert len(scored) > 350
    assert letters == len(topics.held[pipeline.topics.dead_letters, 0]) > 0
    assert ours == scored
    found = topics.of(pipeline.topics.examples, Example, 0)
    assert by_event(found) == by_event(examples)
    matured = [one for one in found if one.origin != "correction"]
    assert matured == [one for one in examples if one.origin != "correction"]
    assert {one.origin for one in found} == {"feedback", "horizon", "correction"}


@pytest.mark.parametrize("name", list(pipelines()))
async def test_partitions_side_by_side_come_to_the_same(name: str) -> None:
    pipeline = pipelines()[name]
    told = history(pipeline, 3, events=500)
    one_by_one = await replayed(pipeline, told, 3, 1)
    together = await replayed(pipeline, told, 3, 250)
    assert len(together.held[pipeline.topics.scored, 0]) > 100
    for topic in (pipeline.topics.events, pipeline.topics.feedback, pipeline.topics.scored):
        for number in range(3):
            assert together.held[topic, number] == one_by_one.held[topic, number], (topic, number)
    for number in range(3):
        both = [
            by_event(one.of(pipeline.topics.examples, Example, number))
            for one in (together, one_by_one)
        ]
        assert both[0] == both[1]


def test_records_have_the_places_that_producers_give_them() -> None:
    told = [Told(T0, "orders.events", b"k%d" % (i % 7), b"") for i in range(100)]
    [made] = chunks(told, 4, WRITTEN)
    homes = {(one.key, one.partition) for one in made}
    assert len(homes) == 7
    for number in range(4):
        offsets = [one.offset for one in made if one.partition == number]
        assert offsets == list(range(len(offsets)))
