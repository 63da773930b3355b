"""What is asked in one turn of the event loop is one call, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.adapters.joint_scorer import LARGEST, JointScorer
from streams.adapters.together import Together
from streams.errors import ModelError, Unavailable


class Server:
    """Doubles numbers; notes what it was asked, and fails on what it is told to."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.cancelled = 0

    async def answer(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.asked.append(list(numbers))
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return [2 * number if number else ValueError("zero") for number in numbers]


async def test_requests_of_one_turn_are_one_call_each_with_its_answer() -> None:
    server = Server()
    together = Together(server.answer)
    assert await asyncio.gather(*map(together.ask, [1, 2, 3])) == [2, 4, 6]
    assert await together.ask(4) == 8
    assert server.asked == [[1, 2, 3], [4]]


async def test_an_error_of_one_request_is_its_own() -> None:
    together = Together(Server().answer)
    found = await asyncio.gather(*map(together.ask, [1, 0, 3]), return_exceptions=True)
    assert (found[0], found[2]) == (2, 6)
    assert isinstance(found[1], ValueError)


async def test_an_error_of_the_call_is_everybodys() -> None:
    server = Server()
    server.error = OSError("gone")
    together = Together(server.answer)
    found = await asyncio.gather(*map(together.ask, [1, 2]), return_exceptions=True)
    assert found == [server.error, server.error]


async def test_a_call_goes_on_while_anybody_waits_for_it() -> None:
    server = Server()
    server.open.clear()
    together = Together(server.answer)
    first, second = (asyncio.create_task(together.ask(number)) for number in (1, 2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    assert server.cancelled == 0
    server.open.set()
    assert await second == 4
    assert first.cancelled()


async def test_a_call_that_nobody_waits_for_is_cancelled() -> None:
    server = Server()
    server.open.clear()
    together = Together(server.answer)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.gather(together.ask(1), together.ask(2))
    await asyncio.sleep(0)
    assert server.cancelled == 2


class Model:
    """Scores are the rows' sums plus the version; some rows it cannot bear."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        self.rows.append(len(vectors))
        await asyncio.sleep(0)
        if (vectors == -1).any():
            raise ModelError("not finite")
        if (vectors == -2).any():
            raise Unavailable("Triton", "t", "T", "away")
        scores: NDArray[np.float32] = vectors.sum(axis=1, keepdims=True) + version
        return scores

    async def close(self) -> None:
        """Nothing to release."""


def rows(count: int, value: float = 1.0) -> NDArray[np.float32]:
    return np.full((count, 2), value, np.float32)


async def test_small_requests_of_one_version_are_one_request() -> None:
    model = Model()
    scorer = JointScorer(model)
    found = await asyncio.gather(*(scorer.infer(1, rows(n, n)) for n in (1, 2, 3)))
    assert [scores.ravel().tolist() for scores in found] == [[3], [5, 5], [7, 7, 7]]
    assert model.rows == [6]


@pytest.mark.parametrize(
    ("requests", "asked"),
    [
        pytest.param([(1, 2), (2, 3)], [2, 3], id="other versions"),
        pytest.param([(1, LARGEST), (1, 3)], [LARGEST, 3], id="a large one"),
        pytest.param([(1, 400)] * 3, [400] * 3, id="too large together"),
    ],
)
async def test_others_are_asked_apart(requests: list[tuple[int, int]], asked: list[int]) -> None:
    model = Model()
    scorer = JointScorer(model)
    found = await asyncio.gather(*(scorer.infer(version, rows(n)) for version, n in requests))
    assert [len(scores) for scores in found] == [n for _, n in requests]
    assert [scores[0, 0] for scores in found] == [2 + version for version, _ in requests]
    assert sorted(model.rows) == sorted(asked)


async def test_a_wrong_answer_is_only_theirs_whose_vectors_brought_it_about() -> None:
    scorer = JointScorer(Model())
    asked = (scorer.infer(1, rows(2, value)) for value in (1.0, -1.0))
    fine, wrong = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(fine, np.ndarray)
    assert isinstance(wrong, ModelError)


async def test_an_absent_server_is_everybodys() -> None:
    scorer = JointScorer(Model())
    asked = (scorer.infer(1, rows(2, value)) for value in (1.0, -2.0))
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in found] == [Unavailable, Unavailable]
