"""Who scores a batch when model servers fail: a later try, or the fallback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import structlog
from numpy.typing import NDArray

from streams.adapters.memory.scorer import FixedChampion
from streams.errors import ModelError, PipelineError
from streams.scoring.inference import Inference
from streams.scoring.served import ServedScores
from streams.spec import Fallback, Policies
from tests.unit.pipelines import declare
from tests.unit.tritons import ONE, Triton, away


def inference(scorer: Any, **fallback: Any) -> Inference:
    pipeline = declare(policies=Policies(fallback=Fallback(score=0.25, **fallback)))
    return Inference(pipeline, scorer, FixedChampion(3))


def names(count: int) -> Callable[[], list[bytes]]:
    return lambda: [b"%d" % number for number in range(count)]


async def one(asked: Inference, received: float) -> ServedScores:
    """What one batch of one event is served."""
    return await asked.score(ONE, names(1), [1], received)


async def test_without_a_deadline_a_batch_waits_until_a_server_is_back() -> None:
    server = Triton(0.75)
    server.error = away()
    task = asyncio.create_task(one(inference(server), time.monotonic()))
    await asyncio.sleep(0.1)
    assert not task.done()
    server.error = None
    found = await task
    assert (found.scores.tolist(), found.versions.tolist()) == ([[0.75]], [3])


@pytest.mark.parametrize("state", ["failing", "hanging"])
async def test_with_a_deadline_a_batch_is_served_the_fallback(state: str) -> None:
    server = Triton(0.75)
    server.error = away() if state == "failing" else None
    if state == "hanging":
        server.answers.clear()
    begun = time.monotonic()
    found = await one(inference(server, after=0.2), begun)
    assert (found.scores.tolist(), found.versions.tolist()) == ([[0.25]], [0])
    assert time.monotonic() - begun == pytest.approx(0.2, abs=0.15)


async def test_a_batch_that_is_late_already_is_still_asked_once() -> None:
    server = Triton(0.75)
    scorer = inference(server, after=0.2)
    assert (await one(scorer, time.monotonic() - 60)).scores.tolist() == [[0.75]]
    server.error = away()
    asked, begun = server.asked, time.monotonic()
    assert (await one(scorer, time.monotonic() - 60)).versions.tolist() == [0]
    assert server.asked == asked + 1
    assert time.monotonic() - begun < 0.09


@pytest.mark.parametrize("after", [0.0, -1.0, float("nan")])
def test_the_deadline_is_a_time_to_wait(after: float) -> None:
    with pytest.raises(PipelineError, match=r"policies\.fallback\.after"):
        Fallback(after=after)


async def test_a_version_that_answers_wrongly_is_degraded_as_well() -> None:
    server = Triton(0.75)
    server.error = ModelError("not finite")
    found = await one(inference(server, after=0.05), time.monotonic())
    assert found.versions.tolist() == [0]


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
    """Errs on negative numbers: with an error for all that it is asked, or for the row alone."""

    def __init__(self, score: float, *, by_row: bool) -> None:
        super().__init__(score)
        self._by_row = by_row

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        bad = (vectors < 0).any(axis=1)
        wrong = bad.all() if self._by_row else bad.any()
        self.error = ModelError("not finite") if wrong else None
        scores = await super().infer(version, vectors)
        scores[bad] = np.nan
        return scores


def vectors(*rows: float) -> NDArray[np.float32]:
    return np.array(rows, np.float32)[:, None]


async def test_several_batches_are_one_request_with_one_answer() -> None:
    server = Triton(0.75)
    served = await inference(server).score(vectors(1, 2, 3), names(3), [2, 1], time.monotonic())
    assert (served.scores.tolist(), served.versions.tolist()) == ([[0.75]] * 3, [3] * 3)
    assert server.asked == 1


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("rows", [(1, -1, 2, 3, -2), (-1,), (-1, -2)])
async def test_a_model_that_errs_on_some_events_answers_the_others(
    rows: tuple[int, ...], by_row: bool
) -> None:
    asked = inference(Choosy(0.75, by_row=by_row))
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            served = await asked.score(
                vectors(*rows), names(len(rows)), [len(rows)], time.monotonic()
            )
            assert [np.isfinite(s) for [s] in served.scores.tolist()] == [r > 0 for r in rows]
            assert served.versions.tolist() == [3] * len(rows)
    assert [line["event"] for line in lines] == ["model errs on single events"]


@pytest.mark.parametrize("by_row", [False, True])
async def test_an_event_on_which_the_model_errs_is_served_the_fallback_where_there_is_one(
    by_row: bool,
) -> None:
    asked = inference(Choosy(0.75, by_row=by_row), after=0.2)
    served = await asked.score(vectors(1, 2, -1), names(3), [2, 1], time.monotonic())
    assert served.scores.tolist() == [[0.75], [0.75], [0.25]]
    assert served.versions.tolist() == [3, 3, 0]


async def test_a_version_that_answers_nothing_at_all_is_unfit() -> None:
    class Broken(Triton):
        async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
            raise ModelError("not finite")

    broken = inference(Broken(0.0), after=0.05)
    served = await broken.score(vectors(5, 6), names(2), [1, 1], time.monotonic())
    assert served.versions.tolist() == [0, 0]


async def test_a_server_that_is_away_is_waited_for_once_for_all() -> None:
    server = Triton(0.75)
    server.error = away()
    served = await inference(server, after=0.2).score(
        vectors(1, 2), names(2), [1, 1], time.monotonic()
    )
    assert served.versions.tolist() == [0, 0]
    assert served.scores.tolist() == [[0.25]] * 2
