"""Which Tritons the settings name now: a name of several addresses is looked up again and again."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import structlog

from streams.adapters.triton.client import SETTING
from streams.addresses import DNS
from streams.errors import ConfigurationError
from streams.settings import Settings

log = structlog.get_logger(__name__)

SECONDS = 5.0
"""What was looked up holds for so long."""
SOONEST = 1.0
"""And for so long at least, where a Triton has failed that a name led to."""

Lookup = Callable[[str, int], Awaitable[list[str]]]


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of a host, each as `ip:port`. Raises `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    at = {str(address[0]) for *_, address in found}
    return sorted(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in at)


class Resolver:
    """The endpoints of `settings.triton`, with one address in the settings of each."""

    def __init__(
        self,
        settings: Settings,
        lookup: Lookup | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `ConfigurationError`: the settings name no Triton."""
        self._settings = settings
        self._lookup = lookup or look_up
        self._clock = clock
        named = [address.strip() for address in settings.triton.split(",")]
        self._named = [address for address in named if address]
        if not self._named:
            raise ConfigurationError(
                f"{SETTING}={settings.triton!r} names no address - use host:port"
            )
        self._known: dict[str, list[str]] = {}
        """What each name led to, when it was last looked up."""
        self._looked = -SECONDS
        self._silent: set[str] = set()

    @property
    def named(self) -> str:
        """What the settings say."""
        return self._settings.triton

    @property
    def fixed(self) -> list[Settings]:
        """Those that are named by an address: they are always there."""
        return [self._one(address) for address in self._named if not address.startswith(DNS)]

    @property
    def changes(self) -> bool:
        """Whether some are named by a name that may lead elsewhere later."""
        return len(self.fixed) < len(self._named)

    def doubt(self) -> None:
        """One of them fails: the names may lead elsewhere by now, and are looked up again."""
        if self._clock() - self._looked >= SOONEST:
            self._looked = -SECONDS

    async def now(self) -> list[Settings]:
        """All of them; while a name leads nowhere, those that it has led to."""
        if self.changes and self._clock() - self._looked >= SECONDS:
            self._looked = self._clock()
            await asyncio.gather(*(self._look(n) for n in self._named if n.startswith(DNS)))
        found = {one.triton: one for one in self.fixed}
        for name, addresses in self._known.items():
            host = name.removeprefix(DNS).rpartition(":")[0]
            found |= {at: self._one(at, host) for at in addresses}
        return list(found.values())

    async def _look(self, name: str) -> None:
        host, _, port = name.removeprefix(DNS).rpartition(":")
        try:
            found = await self._lookup(host, int(port))
        except OSError as error:
            if name not in self._silent:
                log.warning("a name leads to no Triton", name=name, error=str(error))
            self._silent.add(name)
            return
        self._silent.discard(name)
        self._known[name] = found

    def _one(self, address: str, host: str = "") -> Settings:
        """Its certificate is the name's, whatever address it has."""
        name = self._settings.triton_server_name or host
        return self._settings.model_copy(update={"triton": address, "triton_server_name": name})


class _Closes(Protocol):
    async def close(self) -> None: ...


T = TypeVar("T", bound=_Closes)


class PerTriton(Generic[T]):
    """Something for each Triton that the settings name now."""

    def __init__(self, settings: Settings, make: Callable[[Settings], T]) -> None:
        """Raises `ConfigurationError`: the settings name no Triton."""
        self._resolver = Resolver(settings)
        self._make = make
        self._made = {one.triton: make(one) for one in self._resolver.fixed}

    async def now(self, *, afresh: bool = False) -> list[T]:
        """One for each; what was for one that is named no more is closed.

        With `afresh`, what was looked up is a second old at most.
        """
        if self._resolver.changes:
            if afresh:
                self._resolver.doubt()
            named = {one.triton: one for one in await self._resolver.now()}
            gone = [self._made.pop(address) for address in self._made.keys() - named.keys()]
            for address in named.keys() - self._made.keys():
                self._made[address] = self._make(named[address])
            await asyncio.gather(*(one.close() for one in gone))
        return list(self._made.values())

    async def close(self) -> None:
        """Close them all."""
        await asyncio.gather(*(one.close() for one in self._made.values()))
