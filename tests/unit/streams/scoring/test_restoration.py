"""A feature state that was lost whole is whole again before anything is scored on top of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson
import pytest
import structlog
from aiokafka import ConsumerRecord

from streams.adapters.memory.scorer import FixedChampion, MemoryScorer
from streams.adapters.memory.state import MemoryFeatureState
from streams.ports.batches import MicroBatch, Outputs
from streams.ports.features import label_stream
from streams.records import Scored, decoder
from streams.scoring import restoration
from streams.scoring.processor import Scoring
from streams.spec import Count, Pipeline
from streams.spec.layout import unpack
from tests.doubles import LosingState
from tests.folds import label_batch
from tests.unit.pipelines import declare, order
from tests.waiting import until

T0 = 1_700_000_000.0
SHARED = declare(features=[Count(key="amount", over="1h"), Count(key="shopper", over="1h")])
LABELLED = declare()


@dataclass
class Work:
    """Events of two partitions, all of one amount, and how far they are scored."""

    pipeline: Pipeline
    ends: dict[int, int] = field(default_factory=dict)
    labelled_on: Sequence[int] = ()

    async def scored(self) -> Mapping[int, int]:
        return dict(self.ends)

    async def labelled(self) -> tuple[str, Sequence[int]]:
        return label_stream(), self.labelled_on

    def records(self, partition: int, first: int, end: int) -> list[ConsumerRecord]:
        topic, key = self.pipeline.topics.events, f"s{partition}"
        events = [order(10 * n + partition, T0 + n, shopper=key) for n in range(first, end)]
        return [
            ConsumerRecord(
                topic, partition, n, 0, 0, key.encode(), orjson.dumps(one), None, 0, 0, ()
            )
            for n, one in enumerate(events, first)
        ]

    async def read(
        self, topic: str, partition: int, first: int, end: int
    ) -> AsyncIterator[list[ConsumerRecord]]:
        assert topic == self.pipeline.topics.events
        for start in range(first, end, 2):
            await asyncio.sleep(0)
            yield self.records(partition, start, min(end, start + 2))

    def worker(self, state: LosingState) -> Scoring:
        scorer = MemoryScorer({})
        return Scoring(
            self.pipeline, state, scorer, FixedChampion(0), self.read, None, progress=self
        )

    async def score(self, worker: Scoring, partition: int, end: int) -> Outputs:
        """Score a partition up to `end`, and commit it."""
        first = self.ends.get(partition, 0)
        batch = MicroBatch(
            self.pipeline.topics.events,
            partition,
            self.records(partition, first, end),
            first,
            first,
        )
        outputs = await worker.partition(partition).process(batch)
        self.ends[partition] = end
        return outputs


def vectors(pipeline: Pipeline, outputs: Outputs) -> list[list[float]]:
    scored = [
        decoder(Scored).decode(value or b"") for _, value, _ in outputs[pipeline.topics.scored]
    ]
    found: list[list[float]] = unpack([one.vector for one in scored]).tolist()
    return found


async def test_all_partitions_come_back_before_the_first_event_after_a_loss() -> None:
    work = Work(SHARED)
    state = LosingState(MemoryFeatureState(SHARED.plan))
    worker = work.worker(state)
    await work.score(worker, 0, 4)
    await work.score(worker, 1, 5)
    state.held = MemoryFeatureState(SHARED.plan)
    [last] = vectors(SHARED, await work.score(worker, 0, 5))
    assert last == [10.0, 5.0]  # of the amount and of the shopper


async def test_several_workers_restore_side_by_side_and_count_nothing_twice() -> None:
    work = Work(SHARED)
    state = LosingState(MemoryFeatureState(SHARED.plan))
    workers = [work.worker(state) for _ in range(3)]
    await work.score(workers[0], 0, 9)
    await work.score(workers[1], 1, 8)
    state.held = MemoryFeatureState(SHARED.plan)
    work.ends[2] = 0  # a partition of which nothing was scored yet
    found = await asyncio.gather(
        *(work.score(worker, number, [10, 9, 1][number]) for number, worker in enumerate(workers))
    )
    counts = [vectors(SHARED, one)[0][0] for one in found]
    # the last events of partitions 0 and 1 come 9 and 8 s in, that of partition 2 comes first
    assert counts[0] in (18, 19, 20)
    assert counts[1] in (18, 19)
    assert counts[2] == 3


async def test_a_loss_during_the_restoration_begins_it_again() -> None:
    work = Work(SHARED)
    state = LosingState(MemoryFeatureState(SHARED.plan))
    worker = work.worker(state)
    await work.score(worker, 0, 4)
    await work.score(worker, 1, 4)
    state.held = MemoryFeatureState(SHARED.plan)
    declare_whole, losses = state.declare_whole, 2

    async def lost_meanwhile(ends: Mapping[int, int]) -> bool:
        nonlocal losses
        if losses:
            losses -= 1
            state.held = MemoryFeatureState(SHARED.plan)
        return await declare_whole(ends)

    state.declare_whole = lost_meanwhile  # type: ignore[method-assign]
    [last] = vectors(SHARED, await work.score(worker, 1, 5))
    assert (last, losses) == ([9.0, 5.0], 0)


async def test_a_worker_that_starts_brings_a_lost_state_back_whole() -> None:
    work = Work(SHARED, ends={0: 4, 1: 4})
    state = LosingState(MemoryFeatureState(SHARED.plan))
    events = SHARED.topics.events
    await work.worker(state).partition(0).open({events: 4})
    assert [await state.position(number) for number in (0, 1)] == [4, 4]
    assert await state.whole()


async def test_scoring_waits_for_the_labels_of_its_windows() -> None:
    work = Work(LABELLED, ends={1: 2}, labelled_on=(0, 1))
    state = LosingState(MemoryFeatureState(LABELLED.plan))
    with structlog.testing.capture_logs() as lines:
        scoring = asyncio.create_task(work.score(work.worker(state), 0, 1))
        await until(lambda: any("waiting for labels" in one["event"] for one in lines))
        for number in (0, 1):
            assert not scoring.done()
            nothing = replace(label_batch([], partition=number), entities=[[]])
            await state.fold_labels(replace(nothing, stream=label_stream(), note=b"folded"))
        await asyncio.wait_for(scoring, 10)
    assert [one["partitions"] for one in lines if "waiting" in one["event"]] == [[0, 1]]


async def test_without_a_labeller_it_goes_on_after_a_while_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restoration, "_LABELS_WAIT", 0.0)
    work = Work(LABELLED, ends={1: 2}, labelled_on=(1,))
    state = LosingState(MemoryFeatureState(LABELLED.plan))
    with structlog.testing.capture_logs() as lines:
        await work.score(work.worker(state), 0, 1)
    [said] = [one for one in lines if one["log_level"] == "error"]
    assert "start a labeller" in said["event"]
    assert said["partitions"] == [1]


async def test_a_state_of_which_nothing_was_scored_waits_for_no_labels() -> None:
    work = Work(LABELLED, labelled_on=(0, 1))
    state = LosingState(MemoryFeatureState(LABELLED.plan))
    scoring = work.score(work.worker(state), 0, 1)
    assert len(vectors(LABELLED, await asyncio.wait_for(scoring, 10))) == 1
