"""Tritons that come and go: one that comes proves itself first, one that goes ends what it has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import structlog
from numpy.typing import NDArray

from streams.adapters.triton.endpoint import Endpoint
from streams.adapters.triton.resolving import Resolver
from streams.aio.cancelling import cancel
from streams.errors import DriftloopError
from streams.settings import Settings

log = structlog.get_logger(__name__)

EVERY = 1.0
"""Seconds between two looks at what the names lead to."""
_LAST = 30.0
"""Seconds that a Triton that goes has for the requests that it was sent."""

NewEndpoint = Callable[[Settings], Endpoint]


class Membership:
    """Keeps a list of endpoints as the names have it."""

    def __init__(
        self, resolver: Resolver, endpoint: NewEndpoint, vector: NDArray[np.float32]
    ) -> None:
        """`vector`, [1, features], is what an endpoint is asked that is to prove itself."""
        self.endpoints = [endpoint(one) for one in resolver.fixed]
        """Those that get requests."""
        self.version: Callable[[], int] = lambda: 0
        """Which version an endpoint must answer for, before it gets requests; 0 for none."""
        self._resolver = resolver
        self._new = endpoint
        self._vector = vector
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._going: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None

    @property
    def named(self) -> str:
        """What the settings say."""
        return self._resolver.named

    def follow(self) -> None:
        """Begin to follow the names, where there are any."""
        if self._resolver.changes and self._following is None:
            self._following = asyncio.create_task(self._follow(), name="triton-names")

    async def close(self) -> None:
        """Stop, and release the connections."""
        if self._following is not None:
            await cancel(self._following)
        await cancel(*self._coming.values(), *self._going)
        await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints))

    async def _follow(self) -> None:
        while True:
            named = {one.triton: one for one in await self._resolver.now()}
            for endpoint in [one for one in self.endpoints if one.address not in named]:
                self.endpoints.remove(endpoint)
                self._going.add(leaving := asyncio.create_task(_leave(endpoint)))
                leaving.add_done_callback(self._going.discard)
            for address in [one for one in self._coming if one not in named]:
                await cancel(self._coming.pop(address))
            known = {one.address for one in self.endpoints} | self._coming.keys()
            for address in named.keys() - known:
                self._coming[address] = asyncio.create_task(self._join(named[address]))
            await asyncio.sleep(EVERY)

    async def _join(self, settings: Settings) -> None:
        """Take an endpoint in once it serves: what it lacks is loaded meanwhile."""
        endpoint = self._new(settings)
        try:
            await self._proven(endpoint)
        except asyncio.CancelledError:
            await endpoint.close()
            raise
        log.info("a Triton joins", endpoint=endpoint.address)
        self.endpoints.append(endpoint)
        del self._coming[endpoint.address]

    async def _proven(self, endpoint: Endpoint) -> None:
        """Return when it answers for what is served now; the first request has that loaded.

        Its control loads every version that is configured, all at once.
        """
        while version := self.version():
            with suppress(DriftloopError):
                await endpoint.infer(version, self._vector)
                return
            await asyncio.sleep(EVERY)


async def _leave(endpoint: Endpoint) -> None:
    """Send it nothing more, and let it end what it has."""
    log.info("a Triton leaves", endpoint=endpoint.address, in_flight=endpoint.in_flight)
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST):
            await endpoint.at_rest()
    await endpoint.close()
