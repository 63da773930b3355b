"""A worker tells how busy it is, how far behind, and how old what it has in hand is."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import ConsumerRecord
from prometheus_client import REGISTRY

from streams.engine.busy import WorkMeter
from streams.engine.inbox import Inbox
from streams.engine.lag import LagGauges
from streams.engine.lanes import Lanes
from streams.engine.polling import Fetched, Limits
from streams.ports.batches import TopicPartition
from tests.unit.streams.engine.test_inbox import Reader
from tests.unit.streams.engine.test_lanes import EVENTS, Recorder, fetched, lanes_of
from tests.waiting import until


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"driftloop_{name}", labels)


def test_lanes_that_work_side_by_side_make_one_busy_worker() -> None:
    now = [100.0]
    meter = WorkMeter("busy", lambda: now[0])
    first, second = meter.working(), meter.working()
    first.__enter__()
    now[0] += 1.0
    second.__enter__()
    now[0] += 1.0
    first.__exit__(None, None, None)
    now[0] += 1.0
    assert value("busy_seconds_total", pipeline="busy") == pytest.approx(2.0)
    second.__exit__(None, None, None)
    assert value("busy_seconds_total", pipeline="busy") == pytest.approx(3.0)
    now[0] += 50.0
    with meter.working():
        now[0] += 0.5
    assert value("busy_seconds_total", pipeline="busy") == pytest.approx(3.5)


def test_work_that_fails_ends_being_busy() -> None:
    now = [0.0]
    meter = WorkMeter("failing", lambda: now[0])

    def fail() -> None:
        with meter.working():
            now[0] += 1.0
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    now[0] += 9.0
    with meter.working():
        now[0] += 1.0
    assert value("busy_seconds_total", pipeline="failing") == pytest.approx(2.0)


async def test_lag_counts_what_was_fetched_and_not_worked_on() -> None:
    recorder, gauges = Recorder(), LagGauges("lagging")
    lanes = lanes_of(recorder, Limits(batch_records=10, span=0.01), [])
    await lanes.open({EVENTS}, 1)
    recorder.gate.clear()
    lanes.put(fetched(0, 10))
    await asyncio.sleep(0)  # the lane takes them
    await until(lambda: lanes.waiting(EVENTS).records == 0)
    lanes.put(fetched(10, 7))
    assert lanes.oldest is not None
    assert lanes.oldest <= time.monotonic()
    gauges.observe({EVENTS: 5}, lanes)
    labels = {"pipeline": "lagging", "topic": "t", "partition": "0"}
    assert value("lag_records", **labels) == 12.0
    recorder.gate.set()
    await until(lambda: lanes.oldest is None)
    gauges.observe({EVENTS: 0}, lanes)
    assert value("lag_records", **labels) == 0.0
    assert value("lag_seconds", **labels) == 0.0
    assert value("oldest_seconds", pipeline="lagging") == 0.0
    await lanes.close()


def test_a_partition_that_was_given_up_is_shown_no_more() -> None:
    gauges, lanes = LagGauges("moving"), Lanes(None, ["t"], None, print)  # type: ignore[arg-type]
    first, second = TopicPartition("t", 0), TopicPartition("t", 1)
    gauges.observe({first: 3, second: 4}, lanes)
    gauges.observe({second: 4}, lanes)
    assert value("lag_records", pipeline="moving", topic="t", partition="0") is None
    assert value("lag_records", pipeline="moving", topic="t", partition="1") == 4.0


def test_the_age_is_that_of_the_next_record() -> None:
    inbox = Inbox(0, ["a"], Limits(batch_records=2), Reader())
    assert inbox.waiting("a") == (0, 0.0)
    assert inbox.oldest is None
    records = [
        ConsumerRecord("a", 0, i, 1_700_000_000_000 + 1000 * i, 0, b"", b"", None, 0, 0, ())
        for i in range(4)
    ]
    inbox.put(Fetched("a", 0, records, 12.5, 1))
    assert inbox.waiting("a") == (4, 1_700_000_000.0)
    assert inbox.oldest == 12.5
    inbox.take()
    assert inbox.waiting("a") == (2, 1_700_000_002.0)
    inbox.take()
    assert inbox.waiting("a") == (0, 1_700_000_003.0)  # what comes after it is not older
