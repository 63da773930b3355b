"""Requests of one turn of the event loop, answered by one call: what lanes ask side by side."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """Collects what is asked in one turn of the event loop, and asks for all of it at once.

    `answer` returns an answer or an error for each request, in their order; an error that it raises
    is each request's. Nobody waits for others: a turn ends by itself. The call is cancelled once
    nobody waits for it any more. What would weigh more than `most` is asked for in several calls.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        most: float = math.inf,
        weigh: Callable[[Q], float] = lambda request: 1,
    ) -> None:
        self._answer = answer
        self._most = most
        self._weigh = weigh
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []

    async def ask(self, request: Q) -> A:
        """The answer to one request. Raises what `answer` has for it."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[A] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._start)
        self._waiting.append((request, answered))
        return await answered

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []
        call, weight = list[tuple[Q, asyncio.Future[A]]](), 0.0
        for one in waiting:
            weight += self._weigh(one[0])
            if call and weight > self._most:
                self._call(call)
                call, weight = [], self._weigh(one[0])
            call.append(one)
        self._call(call)

    def _call(self, waiting: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        asking = asyncio.create_task(self._ask(waiting))

        def left(_: asyncio.Future[A]) -> None:
            if all(answered.done() for _, answered in waiting):
                asking.cancel()  # without effect where it has ended

        for _, answered in waiting:
            answered.add_done_callback(left)  # also keeps the task from being collected

    async def _ask(self, waiting: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        answers: Sequence[A | Exception]
        try:
            answers = await self._answer([request for request, _ in waiting])
        except Exception as error:
            answers = [error] * len(waiting)
        for (_, answered), answer in zip(waiting, answers, strict=True):
            if answered.done():  # its caller could not wait longer
                continue
            if isinstance(answer, Exception):
                answered.set_exception(answer)
            else:
                answered.set_result(answer)
