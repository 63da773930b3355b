"""Combines requests that are made at the same time into one call."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
_Waiting = tuple[Q, "asyncio.Future[A]"]


class Coalescer(Generic[Q, A]):
    """Collects the requests of one turn of the event loop, and answers them with one call.

    `answer` returns an answer or an error for each request, in their order; an error that it raises
    is each request's. With `at_once` calls under way, what is asked meanwhile is collected for the
    next: the busier it is, the more a call answers. A call weighs at most `most`; a request that is
    as heavy by itself is not held up. A call is cancelled once nobody waits for it any more.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        *,
        at_once: float = math.inf,
        most: float = math.inf,
        weigh: Callable[[Q], float] = lambda request: 1,
    ) -> None:
        self._answer = answer
        self._at_once = at_once
        self._most = most
        self._weigh = weigh
        self._waiting: deque[_Waiting[Q, A]] = deque()
        self._calls = 0

    async def ask(self, request: Q) -> A:
        """The answer to one request. Raises what `answer` has for it."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[A] = loop.create_future()
        if self._weigh(request) >= self._most:
            self._call([(request, answered)])
        else:
            if not self._waiting:
                loop.call_soon(self._start)
            self._waiting.append((request, answered))
        return await answered

    def _start(self) -> None:
        while self._waiting and self._calls < self._at_once:
            self._calls += 1
            self._call(self._next()).add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._calls -= 1
        self._start()

    def _next(self) -> list[_Waiting[Q, A]]:
        """The longest waiting requests, as many as one call may answer."""
        chosen = [self._waiting.popleft()]
        weight = self._weigh(chosen[0][0])
        while self._waiting:
            weight += self._weigh(self._waiting[0][0])
            if weight > self._most:
                break
            chosen.append(self._waiting.popleft())
        return chosen

    def _call(self, waiting: Sequence[_Waiting[Q, A]]) -> asyncio.Task[None]:
        asking = asyncio.create_task(self._ask(waiting))

        def left(_: asyncio.Future[A]) -> None:
            if all(answered.done() for _, answered in waiting):
                asking.cancel()  # without effect where it has ended

        for _, answered in waiting:
            answered.add_done_callback(left)  # also keeps the task from being collected
        return asking

    async def _ask(self, waiting: Sequence[_Waiting[Q, A]]) -> None:
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
