"""Counts of what was served: equal to brute force, each event once, whoever goes on with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from streams.distributions import Distribution, Reference
from streams.evaluation.processor import Evaluation
from streams.ports.batches import MicroBatch, SourceRecord
from streams.records import Scored, decoder, encode
from streams.spec.layout import pack
from tests.reference.served import a_reference, wrong_distributions
from tests.unit.pipelines import declare
from tests.unit.streams.evaluation.test_processor import DAY, T0, record

PIPELINE = declare()
_decode = decoder(Distribution).decode


def vectors(count: int, seed: int) -> Any:
    """Float32 [count, 6]."""
    rng = np.random.default_rng(seed)
    found = rng.gamma(2, 100, (count, 6)).astype(np.float32)
    found[:, 1] = rng.integers(0, 2, count)
    return found


REFERENCE = a_reference(PIPELINE)


def served(count: int, seed: int = 0, days: float = 2.0) -> list[Scored]:
    """Events of three versions; 0 is the fallback."""
    rng = np.random.default_rng(seed)
    times = T0 + np.sort(rng.uniform(0, days * DAY, count))
    return [
        Scored(
            event_id=f"o{number}",
            event_time=float(times[number]),
            entities={},
            vector=vector,
            score=float(rng.random()) / 10,
            version=int(rng.integers(3)),
            schema=PIPELINE.schema_hash,
        )
        for number, vector in enumerate(pack(vectors(count, seed)))
    ]


class FromLedger:
    """The references of versions; version 1 alone has one."""

    async def of(self, version: int) -> Reference | None:
        return REFERENCE if version == 1 else None


class Topics:
    """`P.scored` and `P.drift` of one partition."""

    def __init__(self) -> None:
        self.written: list[SourceRecord] = []
        self.next = 0

    async def evaluator(self) -> Evaluation:
        """One that takes up what was written."""

        async def read(topic: str, partition: int) -> Sequence[SourceRecord]:
            return [one for one in self.written if one.topic == topic]

        found = Evaluation(PIPELINE, 0, read, FromLedger())
        await found.open({})
        return found

    async def count(self, evaluator: Evaluation, values: Sequence[Any], first: int = -1) -> None:
        first = self.next if first < 0 else first
        topics = PIPELINE.topics
        records = [record(topics.scored, first + i, value) for i, value in enumerate(values)]
        self.next = max(self.next, first + len(values))
        outputs = await evaluator.process(MicroBatch(topics.scored, 0, records, first, first))
        assert set(outputs) == {topics.drift}
        for key, value, _ in outputs[topics.drift]:
            self.written.append(record(topics.drift, 0, value, key))

    def cells(self) -> dict[tuple[float, int], Distribution]:
        latest = {one.key: one.value for one in self.written}
        found = [_decode(value) for value in latest.values() if value]
        return {(cell.start, cell.version): cell for cell in found}


def check_against_brute_force(topics: Topics, events: Sequence[Scored]) -> None:
    assert wrong_distributions(PIPELINE, {1: REFERENCE}, events, topics.cells().values()) == []


async def test_counts_equal_brute_force() -> None:
    topics, events = Topics(), served(1500)
    evaluator = await topics.evaluator()
    for first in range(0, 1500, 400):
        await topics.count(evaluator, events[first : first + 400])
    check_against_brute_force(topics, events)


async def test_brute_force_sees_what_is_wrong() -> None:
    topics, events = Topics(), served(300)
    await topics.count(await topics.evaluator(), events)
    for name, wrong in (("events", 1), ("outside", [9] * 7), ("sums", [0.0] * 7)):
        cells = [msgspec.structs.replace(cell) for cell in topics.cells().values()]
        setattr(next(cell for cell in cells if cell.version == 1), name, wrong)
        assert len(wrong_distributions(PIPELINE, {1: REFERENCE}, events, cells)) == 1
    assert len(wrong_distributions(PIPELINE, {1: REFERENCE}, events, [])) == 6


async def test_another_worker_goes_on_and_what_comes_again_is_counted_once() -> None:
    topics, events = Topics(), served(900, seed=1)
    await topics.count(await topics.evaluator(), events[:600])
    await topics.count(await topics.evaluator(), events[400:], first=400)
    await topics.count(await topics.evaluator(), events[:900], first=0)
    check_against_brute_force(topics, events)


async def test_what_cannot_be_read_is_passed_over_and_said_once() -> None:
    topics, events = Topics(), served(60, seed=2)
    evaluator = await topics.evaluator()
    replaced = msgspec.structs.replace
    bad = [b"{", None, replaced(events[0], score=[0.1, 0.9]), replaced(events[0], vector=bytes(4))]
    with capture_logs() as logs:
        await topics.count(evaluator, [*bad, *events])
    check_against_brute_force(topics, events)
    assert [line["event"] for line in logs] == ["records cannot be read, drift passes over them"]


async def test_events_of_other_features_are_counted_and_no_more() -> None:
    topics, events = Topics(), served(300, seed=3, days=0.5)
    other = msgspec.structs.replace(events[0], schema="other", vector=bytes(8), version=1)
    await topics.count(await topics.evaluator(), [*events, other])
    cell = topics.cells()[T0, 1]
    assert cell.events == sum(cell.counts[0]) + 1


async def test_a_clock_that_is_fast_makes_no_bucket_of_its_own() -> None:
    topics, [one] = Topics(), served(1, days=0.5)
    fast = msgspec.structs.replace(one, event_time=T0 + 50 * DAY, written=T0 + 3600)
    await topics.count(await topics.evaluator(), [fast])
    assert [start for start, _ in topics.cells()] == [T0]


async def test_old_buckets_are_forgotten_and_not_begun_anew() -> None:
    topics, [one] = Topics(), served(1, days=0.5)
    evaluator = await topics.evaluator()
    for day in range(12):
        moved = msgspec.structs.replace(one, event_time=T0 + day * DAY, version=1)
        await topics.count(evaluator, [moved])
    late = "driftloop_late_events_total", {"pipeline": "orders"}
    before = REGISTRY.get_sample_value(*late) or 0.0
    await topics.count(evaluator, [msgspec.structs.replace(one, event_time=T0, version=1)] * 2)
    assert {start for start, _ in evaluator._served._cells} == {
        T0 + day * DAY for day in range(3, 12)
    }
    assert topics.cells()[T0, 1].events == 1
    assert REGISTRY.get_sample_value(*late) == before + 2
    # and one who takes over knows no others
    assert (await topics.evaluator())._served._cells.keys() == evaluator._served._cells.keys()


async def test_what_is_late_does_not_depend_on_batches() -> None:
    events = served(1200, seed=6, days=40)
    late = [msgspec.structs.replace(one, event_time=T0 + 5 * DAY) for one in events[:100]]
    mixed = [*events[:700], *late, *events[700:]]
    for size in (1300, 130):
        topics = Topics()
        evaluator = await topics.evaluator()
        for first in range(0, 1300, size):
            await topics.count(evaluator, mixed[first : first + size])
        check_against_brute_force(topics, mixed)


async def test_cells_of_other_buckets_are_left_alone() -> None:
    topics, events = Topics(), served(20, seed=5)
    await topics.count(await topics.evaluator(), events)
    hourly = [msgspec.structs.replace(cell, span=3600.0) for cell in topics.cells().values()]
    topics.written = [record(PIPELINE.topics.drift, 0, encode(cell), b"k") for cell in hourly]
    assert (await topics.evaluator())._served._cells == {}
