"""How loaded Triton and Redis are, between two looks at what they have counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from streams.adapters.redis.load import RedisLoad
from streams.adapters.triton.load import TritonCounts, load_between


def test_tritons_load_is_that_since_the_look_before() -> None:
    before = TritonCounts(requests=10, queued=1.0, computed=2.0, present=3.5, worked=2.0)
    now = TritonCounts(requests=30, queued=1.2, computed=3.0, present=5.5, worked=2.5)
    load = load_between(before, now, seconds=2.0, instances=1)
    assert load.queue_seconds == pytest.approx(0.01)
    assert load.compute_seconds == pytest.approx(0.05)
    assert load.in_flight == pytest.approx(1.0)
    assert load.use == pytest.approx(0.25)


@pytest.mark.parametrize("requests", [10, 3], ids=["none since", "started anew"])
def test_without_requests_there_is_no_load(requests: int) -> None:
    before = TritonCounts(10, 1.0, 2.0, 3.5, 2.0)
    assert load_between(before, before._replace(requests=requests), 1.0, 1) == (0.0,) * 4


async def test_redis_tells_of_its_busiest_node_and_all_memory() -> None:
    now, told = [0.0], dict[str, list[dict[str, Any]]]()

    async def info(section: str) -> Sequence[Mapping[str, Any]]:
        return told[section]

    def value(name: str) -> float | None:
        return REGISTRY.get_sample_value(f"driftloop_redis_{name}")

    def say(busy: float, calls: int, usec: int) -> None:
        cpu = {"used_cpu_user_main_thread": busy, "used_cpu_sys_main_thread": 1.0}
        told.update(
            memory=[{"used_memory": 100, "maxmemory": 400}, {"used_memory": 50, "maxmemory": 400}],
            cpu=[cpu, {"used_cpu_user": 0.5, "used_cpu_sys": 0.0}],
            commandstats=[{"cmdstat_fcall": {"calls": calls, "usec": usec}}, {}],
            latencystats=[{"latency_percentiles_usec_fcall": {"p50": 90.0, "p99": 2000.0}}, {}],
        )

    load = RedisLoad(info, lambda: now[0])
    say(1.0, 10, 1000)
    await load.look()
    now[0] = 2.0
    say(2.5, 20, 6000)
    await load.look()
    assert value("memory_bytes") == 150
    assert value("max_memory_bytes") == 800
    assert value("use") == pytest.approx(0.75)
    assert value("call_seconds") == pytest.approx(0.0005)
    assert value("slow_call_seconds") == pytest.approx(0.002)
    told["memory"][1]["maxmemory"] = 0
    await load.look()
    assert value("max_memory_bytes") == 0  # a node without a limit: there is none
    told.update(memory=[], cpu=[], commandstats=[], latencystats=[])
    await load.look()  # a user that may not ask
    assert value("memory_bytes") == 150
