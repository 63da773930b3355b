"""What real servers tell of their load: Triton's statistics, and what Redis tells a worker."""

from __future__ import annotations

import numpy as np
from prometheus_client import REGISTRY

from streams.adapters.redis.state import RedisFeatureState
from streams.adapters.triton.load import TritonLoads
from streams.adapters.triton.scorer import TritonScorer
from streams.settings import Settings
from tests.models import linear, publish_first
from tests.synthetic import declare
from tests.waiting import until


async def test_triton_tells_how_loaded_a_version_is(settings: Settings) -> None:
    declared = declare("loads")
    labels = {"pipeline": "loads", "endpoint": settings.triton, "version": "1"}

    def value(name: str) -> float | None:
        return REGISTRY.get_sample_value(f"driftloop_triton_{name}", labels)

    loads = TritonLoads(settings, declared.name)
    await loads.look()
    assert value("use") is None  # it is not loaded
    await publish_first(settings, declared, linear(4))
    scorer = TritonScorer(settings, declared.name, declared.model.outputs)
    await loads.look()
    for _ in range(50):
        await scorer.infer(1, np.zeros((512, len(declared.feature_names)), np.float32))
    await loads.look()
    for name in ("queue_seconds", "compute_seconds", "in_flight", "use"):
        found = value(name)
        assert found is not None
        assert found > 0, name
    assert 0 < (value("use") or 0) <= 1
    assert (value("compute_seconds") or 0) < 1
    assert 0 < (value("in_flight") or 0) <= 1.01  # one request at a time

    async def rests() -> bool:
        await loads.look()
        return value("use") == 0

    await until(rests, "what it has counted late is past")
    away = TritonLoads(settings.model_copy(update={"triton": "127.0.0.1:9"}), declared.name)
    await away.look()  # an endpoint that is away shows nothing, and fails nobody
    for one in (scorer, loads, away):
        await one.close()
    assert value("use") is None  # as after an endpoint has left


async def test_redis_tells_the_workers_user_how_loaded_it_is(settings: Settings) -> None:
    declared = declare("loads")
    state = await RedisFeatureState.of(settings, declared, "topic")
    try:
        for _ in range(2):
            await state.load.look()
    finally:
        await state.close()
    for name in ("memory_bytes", "use", "slow_call_seconds"):
        found = REGISTRY.get_sample_value(f"driftloop_redis_{name}")
        assert found is not None
        assert found > 0, name
