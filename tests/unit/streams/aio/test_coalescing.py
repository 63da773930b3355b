"""What is asked in one turn of the event loop is one call, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from unittest.mock import ANY

import pytest

from streams.aio.coalescing import Coalescer


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
    together = Coalescer(server.answer)
    assert await asyncio.gather(*map(together.ask, [1, 2, 3])) == [2, 4, 6]
    assert await together.ask(4) == 8
    assert server.asked == [[1, 2, 3], [4]]


async def test_an_error_of_one_request_is_its_own() -> None:
    together = Coalescer(Server().answer)
    found = await asyncio.gather(*map(together.ask, [1, 0, 3]), return_exceptions=True)
    assert (found[0], found[2]) == (2, 6)
    assert isinstance(found[1], ValueError)


async def test_an_error_of_the_call_is_everybodys() -> None:
    server = Server()
    server.error = OSError("gone")
    together = Coalescer(server.answer)
    found = await asyncio.gather(*map(together.ask, [1, 2]), return_exceptions=True)
    assert found == [server.error, server.error]


async def test_a_call_goes_on_while_anybody_waits_for_it() -> None:
    server = Server()
    server.open.clear()
    together = Coalescer(server.answer)
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
    together = Coalescer(server.answer)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.gather(together.ask(1), together.ask(2))
    await asyncio.sleep(0)
    assert server.cancelled == 2


async def test_what_weighs_too_much_is_asked_for_in_several_calls() -> None:
    server = Server()
    together = Coalescer(server.answer, most=10, weigh=float)
    assert await asyncio.gather(*map(together.ask, [4, 5, 3, 20, 1])) == [8, 10, 6, 40, 2]
    assert sorted(server.asked) == [[3, 1], [4, 5], [20]]


async def test_what_is_asked_while_enough_is_under_way_is_collected_for_the_next_call() -> None:
    server = Server()
    server.open.clear()
    together = Coalescer(server.answer, at_once=1, most=10)
    asked = []
    for number in (1, 2, 3):
        asked.append(asyncio.create_task(together.ask(number)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    asked[1].cancel()
    server.open.set()
    assert await asyncio.gather(*asked, return_exceptions=True) == [2, ANY, 6]
    assert server.asked == [[1], [2, 3]]
