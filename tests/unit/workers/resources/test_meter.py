"""From what is counted to the load; what a worker can do is learned from those that are behind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workers.resources.decision import Measured, Servers, TritonUse
from workers.resources.meter import LoadMeter, LoadReading, WorkerCounts
from workers.resources.samples import retried, rows, servers, worker_counts


def reading(
    at: float,
    *workers: WorkerCounts,
    ends: dict[int, int] | None = None,
    committed: dict[int, int] | None = None,
    away: str = "",
) -> LoadReading:
    named = {f"score-{i}": one for i, one in enumerate(workers, 1)}
    return LoadReading(at, named, ends or {}, committed or {}, Servers(away=away))


def after(meter: LoadMeter, *readings: LoadReading, workers: int = 1) -> Measured:
    found = [meter.take(one, workers) for one in readings][-1]
    assert found is not None
    return found


def test_arrivals_and_backlog_are_kafkas() -> None:
    idle = WorkerCounts(0, 0, 0, 0)
    found = after(
        LoadMeter(),
        reading(0, idle, ends={0: 100, 1: 50}, committed={0: 100}),
        reading(4, idle, ends={0: 500, 1: 50}, committed={0: 450}),
    )
    assert found.arrivals == {0: 100.0, 1: 0.0}
    assert found.backlog == {0: 50.0, 1: 0.0}  # a group that has committed nothing is not behind
    assert found.arrival == 100.0
    assert found.rate == 0.0


def test_a_worker_that_is_behind_shows_what_it_can_do() -> None:
    meter = LoadMeter()
    calm = after(meter, reading(0, WorkerCounts(0, 0, 0, 0)), reading(4, WorkerCounts(40, 2, 1, 3)))
    assert (calm.rate, calm.busy) == (0.0, 0.5)
    assert calm.servers.waiting == 0.5
    busy = after(
        meter, reading(8, WorkerCounts(3000, 6, 2, 9e3)), reading(9, WorkerCounts(4040, 7, 2, 9e3))
    )
    assert busy.rate == pytest.approx(800.0)  # 4,000 records in the 5 busy seconds since
    # small batches since: it does fewer a busy second, and can do as many as before
    later = after(
        meter, *(reading(10 + i, WorkerCounts(4040 + i, 7 + i / 2, 2, 0)) for i in range(9))
    )
    assert later.rate == pytest.approx(800.0)
    # it was never behind since, and is faster: so much it can do at least
    faster = after(
        meter,
        *(reading(20 + i, WorkerCounts(5000 + 600 * i, 12 + i / 2, 2, 0)) for i in range(9)),
    )
    assert faster.rate == pytest.approx(1200.0)


def test_of_several_only_those_that_are_behind_are_asked() -> None:
    nothing = WorkerCounts(0, 0, 0, 0)
    found = after(
        LoadMeter(),
        reading(0, nothing, nothing),
        reading(5, WorkerCounts(5000, 5, 0, 9000), WorkerCounts(100, 2.5, 0, 0)),
        workers=2,
    )
    assert found.rate == 1000.0
    assert found.busy == pytest.approx(0.75)


def test_nothing_is_learned_of_workers_that_wait_for_a_server() -> None:
    waits = reading(5, WorkerCounts(10, 5, 5, 9000), away="Triton")
    assert after(LoadMeter(), reading(0, WorkerCounts(0, 0, 0, 0)), waits).rate == 0.0


def test_a_server_that_rests_for_a_moment_is_still_full() -> None:
    meter, found = LoadMeter(), None
    for at, use in enumerate((0.3, 0.97, 0.96, 0.2)):
        seen = Servers({"a:1": TritonUse(use, 0.01, 0.02)}, redis=use, cpu=use)
        found = meter.take(replace(reading(at, WorkerCounts(0, 0, 0, 0)), servers=seen), 1)
    assert found is not None
    assert found.servers.triton["a:1"].use == 0.97
    assert (found.servers.redis, found.servers.cpu) == (0.97, 0.97)


def test_there_is_no_load_while_a_worker_tells_nothing() -> None:
    meter, one = LoadMeter(), WorkerCounts(0, 0, 0, 0)
    assert meter.take(reading(0, one), 1) is None
    assert meter.take(reading(1, one), 1) is None
    assert meter.take(reading(5, one), 2) is None
    assert meter.take(reading(6, one, one), 2) is not None


def test_a_worker_that_was_started_anew_counts_from_nothing() -> None:
    meter = LoadMeter()
    meter.take(reading(0, WorkerCounts(10_000, 50, 0, 0)), 1)
    found = meter.take(reading(5, WorkerCounts(4000, 5, 0, 9000)), 1)
    assert found is not None
    assert found.rate == 800.0


METRICS = """\
# HELP driftloop_batch_records Records in a micro-batch.
driftloop_batch_records_sum{pipeline="p"} 1200.0
driftloop_busy_seconds_total{pipeline="p"} 2.5
driftloop_stage_seconds_sum{pipeline="p",stage="infer"} 1.5
driftloop_stage_seconds_sum{pipeline="p",stage="fold"} 0.5
driftloop_lag_records{partition="0",pipeline="p",topic="p.events"} 7.0
driftloop_lag_records{partition="1",pipeline="p",topic="p.events"} 5.0
driftloop_retries_total{pipeline="p",stage="infer"} 3.0
driftloop_triton_use{endpoint="a:1",pipeline="p",version="1"} 0.2
driftloop_triton_use{endpoint="a:1",pipeline="p",version="2"} 0.8
driftloop_triton_queue_seconds{endpoint="a:1",pipeline="p",version="1"} 0.5
driftloop_triton_queue_seconds{endpoint="a:1",pipeline="p",version="2"} 0.02
driftloop_triton_compute_seconds{endpoint="a:1",pipeline="p",version="2"} 0.01
driftloop_redis_use 0.3
driftloop_redis_memory_bytes 50.0
driftloop_redis_max_memory_bytes 200.0
"""


def test_what_is_counted_is_read_from_the_workers_metrics() -> None:
    found = rows(METRICS)
    assert worker_counts(found) == (1200.0, 2.5, 1.5, 12.0, 2.0)
    assert retried([found, found]) == {"infer": 6.0}
    seen = servers([found, rows("driftloop_redis_use 0.4")])
    assert seen.triton == {"a:1": (0.8, 0.02, 0.01)}
    assert (seen.redis, seen.redis_memory) == (0.4, 0.25)
    assert servers([]) == Servers()
