"""Who scores a batch when model servers fail: a later try, or the fallback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from streams.errors import ModelError, PipelineError
from streams.inference import Inference
from streams.spec import Fallback, Policies
from tests.unit.pipelines import declare
from tests.unit.tritons import ONE, Triton, away


class Champion:
    version, threshold = 3, 0.5


def inference(scorer: Any, **fallback: Any) -> Inference:
    pipeline = declare(policies=Policies(fallback=Fallback(score=0.25, **fallback)))
    return Inference(pipeline, scorer, Champion())


async def test_without_a_deadline_a_batch_waits_until_a_server_is_back() -> None:
    server = Triton(0.75)
    server.error = away()
    task = asyncio.create_task(inference(server).scores(ONE, time.monotonic()))
    await asyncio.sleep(0.1)
    assert not task.done()
    server.error = None
    found = await task
    assert (found.scores.tolist(), found.version, found.degraded) == ([[0.75]], 3, False)


@pytest.mark.parametrize("state", ["failing", "hanging"])
async def test_with_a_deadline_a_batch_is_served_the_fallback(state: str) -> None:
    server = Triton(0.75)
    server.error = away() if state == "failing" else None
    if state == "hanging":
        server.answers.clear()
    begun = time.monotonic()
    found = await inference(server, after=0.2).scores(ONE, begun)
    assert (found.scores.tolist(), found.version, found.degraded) == ([[0.25]], 0, True)
    assert time.monotonic() - begun == pytest.approx(0.2, abs=0.15)


async def test_a_batch_that_is_late_already_is_still_asked_once() -> None:
    server = Triton(0.75)
    ask: Callable[[], Any] = lambda: inference(server, after=0.2).scores(ONE, time.monotonic() - 60)  # noqa: E731
    assert (await ask()).scores.tolist() == [[0.75]]
    server.error = away()
    asked, begun = server.asked, time.monotonic()
    assert (await ask()).degraded
    assert server.asked == asked + 1
    assert time.monotonic() - begun < 0.09


@pytest.mark.parametrize("after", [0.0, -1.0, float("nan")])
def test_the_deadline_is_a_time_to_wait(after: float) -> None:
    with pytest.raises(PipelineError, match=r"policies\.fallback\.after"):
        Fallback(after=after)


async def test_a_version_that_answers_wrongly_is_degraded_as_well() -> None:
    server = Triton(0.75)
    server.error = ModelError("not finite")
    assert (await inference(server, after=0.05).scores(ONE, time.monotonic())).degraded


async def test_the_log_says_once_that_the_fallback_answers_and_once_that_it_stops() -> None:
    server = Triton(0.75)
    asked = inference(server, after=0.01)
    with structlog.testing.capture_logs() as lines:
        server.error = away()
        for _ in range(3):
            await asked.scores(ONE, time.monotonic())
        server.error = None
        for _ in range(3):
            await asked.scores(ONE, time.monotonic())
    events = [line["event"] for line in lines if "degraded" in line["event"]]
    assert events == ["degraded", "no longer degraded"]
