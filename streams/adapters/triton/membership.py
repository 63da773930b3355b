"""Tritons that come and go: one that comes proves itself first, one that goes ends what it has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from streams.adapters.triton.endpoint import Endpoint
from streams.adapters.triton.resolving import Resolver
from streams.aio.cancelling import cancel
from streams.errors import DriftloopError
from streams.settings import Settings
from streams.spec.layout import Rows

log = structlog.get_logger(__name__)

EVERY = 1.0
"""Seconds between two looks at what the names lead to; the next comes at once where one fails."""
_LAST = 30.0
"""Seconds that a Triton that goes has for the requests that it was sent."""

NewEndpoint = Callable[[Settings], Endpoint]


class Membership:
    """Keeps a list of endpoints as the names have it."""

    def __init__(self, resolver: Resolver, endpoint: NewEndpoint, row: Rows) -> None:
        """`row`, one, is what an endpoint is asked that is to prove itself."""
        self.endpoints = [endpoint(one) for one in resolver.fixed]
        """Those that get requests."""
        self.versions: Callable[[], Sequence[int]] = tuple
        """What an endpoint must serve before it gets requests: the first it is asked for."""
        self._resolver = resolver
        self._new = endpoint
        self._row = row
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._going: dict[str, asyncio.Task[None]] = {}
        self._doubted = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    @property
    def named(self) -> str:
        """What the settings say."""
        return self._resolver.named

    def follow(self) -> None:
        """Begin to follow the names, where there are any."""
        if self._resolver.changes and self._following is None:
            self._following = asyncio.create_task(self._follow(), name="triton-names")
            self._following.add_done_callback(ended)

    def doubt(self) -> None:
        """One has failed a request: see whether the names still lead to it."""
        self._resolver.doubt()
        self._doubted.set()

    async def close(self) -> None:
        """Stop, and release the connections."""
        if self._following is not None:
            await cancel(self._following)
        await cancel(*self._coming.values(), *self._going.values())
        await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints))

    async def _follow(self) -> None:
        while True:
            self._doubted.clear()
            named = {one.triton: one for one in await self._resolver.now()}
            for endpoint in [one for one in self.endpoints if one.address not in named]:
                self.endpoints.remove(endpoint)
                self._going[endpoint.address] = asyncio.create_task(self._leave(endpoint))
                self._going[endpoint.address].add_done_callback(ended)
            for address in [one for one in self._coming if one not in named]:
                await cancel(self._coming.pop(address))
            known = {one.address for one in self.endpoints} | self._coming.keys()
            for address in named.keys() - known - self._going.keys():
                self._coming[address] = asyncio.create_task(self._join(named[address]))
                self._coming[address].add_done_callback(ended)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._doubted.wait()

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
        """Return when it serves what is served now; why it does not yet is said once.

        Where no other answers, the first version is enough: that is better than none.
        """
        said = False
        while versions := self.versions():
            others = any(one.circuit.state == "closed" for one in self.endpoints)
            try:
                await endpoint.prove(versions if others else versions[:1], self._row)
                return
            except DriftloopError as error:
                if not said:
                    log.info(
                        "a Triton gets no requests until it serves what the others do",
                        endpoint=endpoint.address,
                        versions=list(versions),
                        error=str(error),
                    )
                said = True
            await asyncio.sleep(EVERY)

    async def _leave(self, endpoint: Endpoint) -> None:
        """Send it nothing more, let it end what it has, and close it."""
        log.info("a Triton leaves", endpoint=endpoint.address, in_flight=endpoint.in_flight)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST):
                    await endpoint.at_rest()
        finally:
            await endpoint.close()
            del self._going[endpoint.address]


def ended(task: asyncio.Task[None]) -> None:
    """Say so where an error has ended what should go on."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a task has ended", task=task.get_name(), error=repr(error))
