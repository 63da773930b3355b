"""A lane collects, processes, writes and commits in order, and never queues without bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import structlog
from aiokafka import ConsumerRecord
from faust.types import TP
from prometheus_client import REGISTRY

from streams.aio import cancelling
from streams.engine.busy import WorkMeter
from streams.engine.commit_timing import Uncommitted
from streams.engine.gaps import Gaps
from streams.engine.inbox import Inbox
from streams.engine.lanes import Lane, Lanes, Prepare
from streams.engine.polling import Fetched, Limits
from streams.ports.batches import Background, MicroBatch, Outputs, TopicPartition
from tests.waiting import until

EVENTS = TP("t", 0)


class Recorder:
    """Processor, writer and flow in one: remembers what happened, in order."""

    def __init__(self, committed: dict[str, int | None] | None = None) -> None:
        self.log: list[Any] = []
        self.batches: list[MicroBatch] = []
        self.committed_at = committed or {}
        self.begun: float | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.resumed: dict[str, int] = {}
        self.starts: dict[TP, int] = {}
        self.unread: set[TP] = set()
        """Partitions that hold more than has come."""

    async def open(self, committed: Mapping[str, int | None] | None = None) -> None:
        self.log.append("take over" if committed is None else ("open", dict(committed)))

    async def process(self, batch: MicroBatch) -> Outputs:
        await self.gate.wait()
        if self.error:
            raise self.error
        self.batches.append(batch)
        return {"out": [(None, record.value, []) for record in batch.records]}

    async def write(self, outputs: Outputs, positions: Mapping[TP, int]) -> None:
        self.begun = self.begun or time.monotonic()
        self.log.append(("write", len(outputs["out"]), dict(positions)))

    async def commit(self) -> None:
        if self.begun is not None:
            self.log.append("commit")
        self.begun = None

    async def close(self) -> None:
        self.log.append("close")

    def on_buffer_full(self, tp: TP) -> None:
        self.log.append(("pause", tp))

    def on_buffer_drop(self, tp: TP) -> None:
        if ("pause", tp) in self.log:
            self.log.append(("resume", tp))

    def read_to_end(self, tp: TP, arrived: int) -> bool:
        return tp not in self.unread

    async def log_start(self, tp: TopicPartition) -> int:
        return self.starts.get(TP(*tp), 0)

    async def committed(self, partitions: set[TP]) -> dict[TP, int | None]:
        return {tp: self.committed_at.get(tp.topic) for tp in partitions}


class Idle:
    """A processor that only passes on; the recorder is the writer."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.process = recorder.process

    async def open(self, committed: Mapping[str, int | None]) -> Mapping[str, int]:
        await self._recorder.open(committed)
        return self._recorder.resumed

    async def commit(self) -> None:
        pass

    async def close(self) -> None:
        pass


def fetched(first: int, count: int, topic: str = "t", generation: int = 1) -> Fetched:
    records = [
        ConsumerRecord(topic, 0, first + i, 0, 0, b"k", b"v", None, 1, 1, ()) for i in range(count)
    ]
    return Fetched(topic, 0, records, time.monotonic(), generation)


def lanes_of(
    recorder: Recorder,
    limits: Limits,
    errors: list[BaseException],
    background: Background | None = None,
    prepare: Prepare | None = None,
) -> Lanes:
    return Lanes(
        lambda partition, of: Lane(
            partition,
            WorkMeter("test"),
            Idle(recorder),
            recorder,
            limits,
            Inbox(partition, ["t", "u"], limits, recorder),
            Gaps("test", recorder.log_start),
        ),
        ["t", "u"],
        recorder.committed,
        errors.append,
        grace=0.2,
        background=background,
        prepare=prepare,
    )


@pytest.fixture
def limits() -> Limits:
    return Limits(batch_records=10, span=0.05)


async def test_batches_are_processed_in_order_and_committed_together(limits: Limits) -> None:
    recorder, errors = Recorder(), list[BaseException]()
    lanes = lanes_of(recorder, limits, errors)
    await lanes.open({EVENTS}, 1)
    lanes.put(fetched(5, 10))
    lanes.put(fetched(15, 3))
    await until(lambda: "commit" in recorder.log)
    assert [(b.first, b.next, len(b.records)) for b in recorder.batches] == [
        (5, 15, 10),
        (15, 18, 3),
    ]
    assert recorder.log[:2] == ["take over", ("open", {"t": None, "u": None})]
    assert recorder.log[-3:] == [("write", 10, {EVENTS: 15}), ("write", 3, {EVENTS: 18}), "commit"]
    await lanes.close()
    assert errors == []


@pytest.mark.parametrize(
    ("received", "due"),
    [
        pytest.param(10.0, 10.08, id="done within the oldest record's span"),
        pytest.param(9.98, 10.06, id="which counts from when it was fetched"),
        pytest.param(5.0, 10.05, id="of a backlog, after half a span of work"),
    ],
)
def test_a_commit_begins_in_time(received: float, due: float) -> None:
    assert Uncommitted(received, begun=10.0).due(span=0.1, takes=0.02) == pytest.approx(due)


async def test_small_fetches_are_merged_until_the_oldest_has_waited(limits: Limits) -> None:
    recorder = Recorder()
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS}, 1)
    for offset in range(4):
        lanes.put(fetched(offset, 1))
    await until(lambda: recorder.batches)
    assert len(recorder.batches[0].records) == 4
    await lanes.close()


async def test_holes_in_the_offsets_belong_to_the_batch_that_follows(limits: Limits) -> None:
    recorder = Recorder({"t": 3})
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS}, 1)
    lanes.put(fetched(7, 10))
    lanes.put(fetched(20, 10))
    await until(lambda: len(recorder.batches) == 2)
    assert [(b.first, b.next) for b in recorder.batches] == [(3, 17), (17, 30)]
    assert recorder.batches[0].committed == 3
    await lanes.close()


async def test_records_below_the_position_are_dropped(limits: Limits) -> None:
    recorder = Recorder({"t": 5})
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS}, 1)
    lanes.put(fetched(0, 10))
    lanes.put(fetched(0, 10))
    lanes.put(fetched(10, 10))
    await until(lambda: len(recorder.batches) == 2)
    assert [r.offset for b in recorder.batches for r in b.records] == list(range(5, 20))
    await lanes.close()


async def test_what_retention_deleted_unread_is_counted_and_said_once(limits: Limits) -> None:
    recorder = Recorder({"t": 100})
    recorder.starts[EVENTS] = 500
    lanes = lanes_of(recorder, limits, [])
    counted = partial(
        REGISTRY.get_sample_value, "driftloop_trimmed_total", {"pipeline": "test", "topic": "t"}
    )
    before = counted() or 0
    await lanes.open({EVENTS}, 1)
    with structlog.testing.capture_logs() as lines:
        lanes.put(fetched(510, 10))  # nothing was ever at 500 to 509
        lanes.put(fetched(520, 10))
        await until(lambda: len(recorder.batches) == 2)
    assert counted() == before + 400
    assert [(one["offsets"], one["records"]) for one in lines] == [("100-500", 400)]
    await lanes.close()


async def test_what_was_deleted_before_the_first_start_is_said_too(limits: Limits) -> None:
    recorder = Recorder()
    recorder.starts[EVENTS] = 90
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS}, 1)
    with structlog.testing.capture_logs() as lines:
        lanes.put(fetched(90, 10))
        await until(lambda: recorder.batches)
    assert [(one["offsets"], one["records"]) for one in lines] == [("0-90", 90)]
    assert recorder.batches[0].first == 90
    await lanes.close()


async def test_a_lane_goes_on_where_its_state_ends_if_nothing_is_committed(limits: Limits) -> None:
    recorder = Recorder({"u": 3})
    recorder.resumed = {"t": 7}
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS}, 1)
    assert [lanes.position(TopicPartition(name, 0)) for name in "tuv"] == [7, 3, None]
    lanes.put(fetched(0, 10))
    await until(lambda: recorder.batches)
    assert (recorder.batches[0].first, recorder.batches[0].committed) == (7, 0)
    assert [record.offset for record in recorder.batches[0].records] == [7, 8, 9]
    await lanes.close()


async def test_other_topics_are_prepared_before_partitions_are_taken_over(limits: Limits) -> None:
    recorder = Recorder()

    async def prepare(partitions: Collection[int]) -> None:
        recorder.log.append(("prepare", list(partitions)))

    lanes = lanes_of(recorder, limits, [], prepare=prepare)
    await lanes.open({EVENTS}, 1)
    assert recorder.log[:2] == [("prepare", [0]), "take over"]
    await lanes.close()


async def test_topics_are_not_mixed_in_a_batch(limits: Limits) -> None:
    recorder = Recorder()
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS, TP("u", 0)}, 1)
    lanes.put(fetched(0, 2))
    lanes.put(fetched(0, 2, topic="u"))
    await until(lambda: len(recorder.batches) == 2)
    assert [b.topic for b in recorder.batches] == ["t", "u"]
    await lanes.close()


async def test_a_lane_that_is_behind_pauses_its_partition_and_resumes_it(limits: Limits) -> None:
    recorder = Recorder()
    recorder.gate.clear()
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS}, 1)
    for k in range(6):
        lanes.put(fetched(10 * k, 10))
    assert ("pause", EVENTS) in recorder.log
    assert ("resume", EVENTS) not in recorder.log
    recorder.gate.set()
    await until(lambda: ("resume", EVENTS) in recorder.log)
    await lanes.close()


async def test_closing_finishes_what_is_in_hand_commits_it_and_drops_the_rest(
    limits: Limits,
) -> None:
    recorder = Recorder()
    recorder.gate.clear()
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS}, 1)
    lanes.put(fetched(0, 10))
    lanes.put(fetched(10, 10))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(lanes.close())
    await asyncio.sleep(0.01)
    recorder.gate.set()
    await closing
    assert recorder.log[-3:] == [("write", 10, {EVENTS: 10}), "commit", "close"]
    assert len(recorder.batches) == 1


async def test_closing_cuts_off_what_does_not_finish_and_commits_nothing(limits: Limits) -> None:
    recorder = Recorder()
    recorder.gate.clear()
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS}, 1)
    lanes.put(fetched(0, 10))
    await asyncio.sleep(0.01)
    await lanes.close()
    assert "commit" not in recorder.log
    assert recorder.log[-1] == "close"


async def test_records_of_an_earlier_assignment_are_left_to_others(limits: Limits) -> None:
    recorder = Recorder()
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS}, 2)
    lanes.put(fetched(0, 10, generation=1))
    lanes.put(fetched(0, 10, generation=2))
    await until(lambda: recorder.batches)
    await lanes.close()
    assert len(recorder.batches) == 1


async def test_an_error_is_reported_and_nothing_is_committed(limits: Limits) -> None:
    recorder, errors = Recorder(), list[BaseException]()
    recorder.error = ValueError("bug")
    lanes = lanes_of(recorder, limits, errors)
    await lanes.open({EVENTS}, 1)
    lanes.put(fetched(0, 10))
    await until(lambda: errors)
    await lanes.close()
    assert "commit" not in recorder.log


async def test_a_pause_ends_for_both_topics_whichever_drains_last(limits: Limits) -> None:
    recorder = Recorder()
    recorder.gate.clear()
    lanes = lanes_of(recorder, limits, [])
    await lanes.open({EVENTS, TP("u", 0)}, 1)
    for k in range(5):
        lanes.put(fetched(10 * k, 10, topic="u"))
    for k in range(5):
        lanes.put(fetched(10 * k, 10))
    assert {e for e in recorder.log if e[0] == "pause"} == {("pause", EVENTS), ("pause", ("u", 0))}
    recorder.gate.set()
    await until(lambda: len(recorder.batches) == 10)
    assert ("resume", EVENTS) in recorder.log
    assert ("resume", ("u", 0)) in recorder.log
    await lanes.close()


async def test_closing_cuts_a_takeover_off_and_closes_what_it_has_opened(limits: Limits) -> None:
    recorder, begun = Recorder(), asyncio.Event()

    async def hang(committed: Mapping[str, int | None] | None = None) -> None:
        begun.set()
        await asyncio.Event().wait()

    recorder.open = hang  # type: ignore[method-assign]
    lanes = lanes_of(recorder, limits, [])
    opening = asyncio.create_task(lanes.open({EVENTS}, 1))
    await begun.wait()
    await lanes.close()
    assert recorder.log == ["close"]
    with pytest.raises(asyncio.CancelledError):
        await opening


async def test_what_goes_on_beside_the_lanes_ends_with_the_assignment(limits: Limits) -> None:
    recorder, errors = Recorder(), list[BaseException]()
    seen: list[object] = []

    async def background(owned: Collection[int]) -> None:
        seen.append(sorted(owned))
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("ended")

    lanes = lanes_of(recorder, limits, errors, background)
    await lanes.open({EVENTS, TP("u", 0)}, 1)
    await until(lambda: seen)
    await lanes.close()
    assert seen == [[0], "ended"]
    await lanes.open(set(), 2)  # more workers than partitions
    await until(lambda: len(seen) == 3)
    await lanes.close()
    assert seen[2:] == [[], "ended"]
    assert errors == []


async def test_closing_cuts_off_what_passes_over_a_cancellation(
    limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "_AGAIN", 0.01)
    begun = list[object]()

    async def go_on(batch: object) -> Outputs:
        begun.append(batch)
        with suppress(asyncio.CancelledError):  # as aiokafka's clients did when they were closed
            await asyncio.sleep(60)
        return await asyncio.sleep(60, {})

    async def background(owned: Collection[int]) -> None:
        await go_on(owned)

    recorder = Recorder()
    recorder.process = go_on  # type: ignore[method-assign]
    lanes = lanes_of(recorder, limits, [], background)
    await lanes.open({EVENTS}, 1)
    lanes.put(fetched(0, 10))
    await until(lambda: len(begun) == 2)
    async with asyncio.timeout(5):
        await lanes.close()
    assert recorder.log[-1] == "close"


async def test_an_error_beside_the_lanes_is_reported(limits: Limits) -> None:
    recorder, errors = Recorder(), list[BaseException]()

    async def background(owned: Collection[int]) -> None:
        raise ValueError(f"a bug: {sorted(owned)}")

    lanes = lanes_of(recorder, limits, errors, background)
    await lanes.open({EVENTS}, 1)
    await until(lambda: errors)
    await lanes.close()
    assert [str(error) for error in errors] == ["a bug: [0]"]
