"""Who scores a batch when model servers fail: a later try, or the fallback."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
import structlog
from numpy.typing import NDArray

from streams.adapters.memory.scorer import FixedChampion
from streams.errors import ModelError, PipelineError
from streams.scoring.inference import Inference, ServedScores
from streams.spec import Fallback, Policies
from tests.unit.pipelines import declare
from tests.unit.tritons import ONE, Triton, away


def inference(scorer: Any, **fallback: Any) -> Inference:
    pipeline = declare(policies=Policies(fallback=Fallback(score=0.25, **fallback)))
    return Inference(pipeline, scorer, FixedChampion(3))


async def one(asked: Inference, received: float) -> ServedScores:
    """What one batch of one event is served."""
    [scores] = await asked.score(ONE, [1], received)
    return scores


async def test_without_a_deadline_a_batch_waits_until_a_server_is_back() -> None:
    server = Triton(0.75)
    server.error = away()
    task = asyncio.create_task(one(inference(server), time.monotonic()))
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
    found = await one(inference(server, after=0.2), begun)
    assert (found.scores.tolist(), found.version, found.degraded) == ([[0.25]], 0, True)
    assert time.monotonic() - begun == pytest.approx(0.2, abs=0.15)


async def test_a_batch_that_is_late_already_is_still_asked_once() -> None:
    server = Triton(0.75)
    scorer = inference(server, after=0.2)
    assert (await one(scorer, time.monotonic() - 60)).scores.tolist() == [[0.75]]
    server.error = away()
    asked, begun = server.asked, time.monotonic()
    assert (await one(scorer, time.monotonic() - 60)).degraded
    assert server.asked == asked + 1
    assert time.monotonic() - begun < 0.09


@pytest.mark.parametrize("after", [0.0, -1.0, float("nan")])
def test_the_deadline_is_a_time_to_wait(after: float) -> None:
    with pytest.raises(PipelineError, match=r"policies\.fallback\.after"):
        Fallback(after=after)


async def test_a_version_that_answers_wrongly_is_degraded_as_well() -> None:
    server = Triton(0.75)
    server.error = ModelError("not finite")
    assert (await one(inference(server, after=0.05), time.monotonic())).degraded


async def test_the_log_says_once_that_the_fallback_answers_and_once_that_it_stops() -> None:
    server = Triton(0.75)
    asked = inference(server, after=0.01)
    with structlog.testing.capture_logs() as lines:
        server.error = away()
        for _ in range(3):
            await one(asked, time.monotonic())
        server.error = None
        for _ in range(3):
            await one(asked, time.monotonic())
    events = [line["event"] for line in lines if "degraded" in line["event"]]
    assert events == ["degraded", "no longer degraded"]


class Choosy(Triton):
    """Cannot bear some rows."""

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        self.error = ModelError("not finite") if (vectors < 0).any() else None
        return await super().infer(version, vectors)


def vectors(*rows: float) -> NDArray[np.float32]:
    return np.array(rows, np.float32)[:, None]


async def test_several_batches_are_one_request_with_one_answer() -> None:
    server = Triton(0.75)
    [served] = await inference(server).score(vectors(1, 2, 3), [2, 1], time.monotonic())
    assert (served.scores.tolist(), served.version) == ([[0.75]] * 3, 3)
    assert server.asked == 1


async def test_a_wrong_answer_is_only_theirs_whose_vectors_brought_it_about() -> None:
    server = Choosy(0.75)
    asked = inference(server, after=0.2)
    found = await asked.score(vectors(1, 2, -1), [2, 1], time.monotonic())
    assert [(len(f.scores), f.degraded) for f in found] == [(2, False), (1, True)]


async def test_a_server_that_is_away_is_waited_for_once_for_all() -> None:
    server = Triton(0.75)
    server.error = away()
    found = await inference(server, after=0.2).score(vectors(1, 2), [1, 1], time.monotonic())
    assert [(len(f.scores), f.degraded) for f in found] == [(2, True)]
