"""Model servers in memory that fail, hang and are repaired as a test tells them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from streams.adapters.triton.client import NotServing
from streams.adapters.triton.endpoint import Endpoint
from streams.adapters.triton.endpoints import TritonEndpoints
from streams.adapters.triton.membership import Membership
from streams.adapters.triton.resolving import Resolver
from streams.errors import Unavailable
from streams.settings import Settings
from streams.spec.layout import Layout

ONE = np.ones((1, 2), np.float32)


class Clock:
    """A monotonic clock that moves when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Triton:
    """Answers with its own number, or fails as told; restores itself when asked to."""

    def __init__(self, number: float, clock: Clock | None = None, takes: float = 0.0) -> None:
        self.number = number
        self.takes = takes
        """Seconds by the clock that an answer takes."""
        self.error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0
        self.restored: list[tuple[int, bool]] = []
        self.lacks = set[int]()
        """Versions that it does not have, whatever it is told to load."""
        self.caught_up = 0
        self._clock = clock or Clock()

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked += 1
        await self.answers.wait()
        self._clock.now += self.takes
        if self.error is not None:
            raise self.error
        return np.full((len(vectors), 1), self.number, np.float32)

    async def restore(self, version: int, *, died: bool = False) -> None:
        self.restored.append((version, died))
        self.error = None
        self.answers.set()

    async def catch_up(self, versions: Iterable[int]) -> None:
        del versions
        self.caught_up += 1

    async def require(self, version: int) -> None:
        if version in self.lacks:
            raise not_serving(died=False)

    async def close(self) -> None:
        """Nothing to release."""


def away() -> Unavailable:
    """What a scorer raises while nobody listens."""
    return Unavailable("Triton", "here:1", "DRIFTLOOP_TRITON")


def not_serving(*, died: bool) -> NotServing:
    """What a scorer raises where the version is not loaded, or its process has died."""
    return NotServing(Settings(triton="here:1"), "orders", "a reason", died=died)


def among(*endpoints: Endpoint) -> TritonEndpoints:
    """A scorer on these endpoints, of two features."""
    made = {one.address: one for one in endpoints}
    resolver = Resolver(Settings(triton=",".join(made)))
    return TritonEndpoints(Membership(resolver, lambda one: made[one.triton], ONE), Layout.of(2), 1)
