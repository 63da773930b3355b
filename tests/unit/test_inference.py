"""Who scores a batch when model servers fail: another endpoint, a later try, or the fallback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.adapters.circuit import FAILURES
from streams.adapters.triton_client import NotServing
from streams.adapters.triton_endpoints import Endpoint, TritonEndpoints, each
from streams.errors import ModelError, PipelineError, Unavailable
from streams.inference import Inference
from streams.settings import Settings
from streams.spec import Fallback, Policies
from tests.unit.pipelines import declare

ONE = np.ones((1, 2), np.float32)


class Triton:
    """An endpoint's server: answers with its own number, or fails as told."""

    def __init__(self, number: float) -> None:
        self.number = number
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0
        self.restored: list[tuple[int, bool]] = []
        self.repairs = True

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return np.full((len(vectors), 1), self.number, np.float32)

    async def restore(self, version: int, *, died: bool = False) -> None:
        self.restored.append((version, died))
        if not self.repairs:
            raise ModelError("does not load")
        self.error = None

    async def close(self) -> None:
        """Nothing to release."""


class Champion:
    version, threshold = 3, 0.5


def away() -> Unavailable:
    return Unavailable("Triton", "here:1", "DRIFTLOOP_TRITON")


def endpoints(*servers: Triton) -> TritonEndpoints:
    return TritonEndpoints([Endpoint(f"t{s.number:g}", s, s) for s in servers], 2)


def inference(scorer: Any, **fallback: Any) -> Inference:
    pipeline = declare(policies=Policies(fallback=Fallback(score=0.25, **fallback)))
    return Inference(pipeline, scorer, Champion())


async def test_a_request_that_one_endpoint_fails_goes_to_the_next_at_once() -> None:
    first, second = Triton(1), Triton(2)
    scorer = endpoints(first, second)
    first.error = away()
    for _ in range(10):
        assert (await scorer.infer(1, ONE)).tolist() == [[2]]
    assert first.asked <= FAILURES
    assert second.asked == 10


async def test_requests_go_to_the_endpoint_with_least_in_flight() -> None:
    first, second = Triton(1), Triton(2)
    first.gate.clear()
    scorer = endpoints(first, second)
    waiting = [asyncio.create_task(scorer.infer(1, ONE)) for _ in range(2)]
    await asyncio.sleep(0)
    assert (first.asked, second.asked) == (1, 1)
    first.gate.set()
    assert sorted([(await task).item() for task in waiting]) == [1, 2]


async def test_with_every_circuit_open_nobody_is_asked_and_the_error_comes_at_once() -> None:
    servers = Triton(1), Triton(2)
    scorer = endpoints(*servers)
    for server in servers:
        server.error = away()
    for _ in range(FAILURES):
        with pytest.raises(Unavailable):
            await scorer.infer(1, ONE)
    asked = [server.asked for server in servers]
    with pytest.raises(Unavailable, match=r"t1,t2.*circuit is open"):
        await scorer.infer(1, ONE)
    assert [server.asked for server in servers] == asked


async def test_a_wrong_answer_is_the_versions_fault_and_is_not_asked_of_others() -> None:
    first, second = Triton(1), Triton(2)
    first.error = ModelError("not finite")
    scorer = endpoints(first, second)
    for _ in range(2 * FAILURES):
        with pytest.raises(ModelError):
            await scorer.infer(1, ONE)
    assert second.asked == 0


async def test_the_watchdog_repairs_a_dead_backend_without_traffic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.adapters.triton_endpoints.WATCH_SECONDS", 0.01)
    server = Triton(1)
    server.error = NotServing(Settings(triton="t1"), "orders", "process died", died=True)
    scorer = endpoints(server)
    scorer.watch(lambda: 3)
    async with asyncio.timeout(5):
        while server.error is not None:
            await asyncio.sleep(0.005)
    await scorer.close()
    assert server.restored == [(3, True)]


async def test_the_watchdog_asks_nobody_before_the_first_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streams.adapters.triton_endpoints.WATCH_SECONDS", 0.001)
    server = Triton(1)
    scorer = endpoints(server)
    scorer.watch(lambda: 0)
    await asyncio.sleep(0.05)
    await scorer.close()
    assert server.asked == 0


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
        server.gate.clear()
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


def test_endpoints_are_separated_by_commas() -> None:
    assert [one.triton for one in each(Settings(triton="a:1, b:2,"))] == ["a:1", "b:2"]
