"""The Redis server: connecting to it, what its absence raises, and that it forgets nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams import telemetry
from streams.errors import ConfigurationError, Unavailable

log = structlog.get_logger(__name__)

SETTING = "DRIFTLOOP_REDIS"
# the server recovers from these by itself, or an operator helps: worth another try
_PASSING = (
    RedisConnectionError,
    RedisTimeoutError,
    OSError,
    OutOfMemoryError,
    ReadOnlyError,
    ClusterDownError,
    TryAgainError,
    AskError,
    RedisClusterException,
)
_PASSING_CODES = ("BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED")

T = TypeVar("T")


class Eviction:
    """Whether the server may drop keys when its memory is full: it must refuse writes instead."""

    def __init__(self, client: Redis | RedisCluster, address: str) -> None:
        self._client = client
        self._address = address
        self._said = ""
        self._refused = False
        self._evicted: int | None = None

    async def require_none(self) -> None:
        """Check once, before work begins; says so where memory has no limit.

        Raises:
            ConfigurationError: it may drop keys.
            Unavailable: it is away.
        """
        nodes = await self._info("memory")
        if complaint := self._complaint(nodes):
            raise ConfigurationError(complaint)
        if any(memory.get("maxmemory") == 0 for memory in nodes):
            log.warning(
                "Redis has no maxmemory: when memory runs out, the kernel ends it instead of Redis "
                "refusing writes - `redis-cli CONFIG SET maxmemory 8gb`, or what the machine has",
                address=self._address,
            )

    async def watch(self) -> None:
        """Check again: says in the log when it has changed, and when keys were dropped.

        Raises:
            Unavailable: it is away.
        """
        complaint = self._complaint(await self._info("memory"))
        if complaint and complaint != self._said:
            log.error(complaint)
        elif self._said and not complaint:
            log.info("Redis drops no keys any more", address=self._address)
        self._said = complaint
        evicted = sum(int(one.get("evicted_keys", 0)) for one in await self._info("stats"))
        telemetry.REDIS_EVICTED.set(evicted)
        if self._evicted is not None and evicted > self._evicted:
            log.error(
                "Redis has dropped keys: windows may count too little - `driftloop state reset` "
                "counts them from the topics again",
                address=self._address,
                keys=evicted - self._evicted,
            )
        self._evicted = evicted

    def _complaint(self, nodes: Sequence[Mapping[str, Any]]) -> str:
        for memory in nodes:
            policy = str(memory.get("maxmemory_policy", "noeviction"))
            if policy != "noeviction":
                return (
                    f"Redis at {self._address} drops keys when its memory is full "
                    f"(maxmemory-policy {policy}), and feature state with them - "
                    "`redis-cli CONFIG SET maxmemory-policy noeviction`, or set it where the "
                    "server is configured"
                )
        return ""

    async def _info(self, section: str) -> list[dict[str, Any]]:
        """What each node says of itself."""

        async def ask() -> Any:
            if isinstance(self._client, RedisCluster):
                return await self._client.info(section, target_nodes=RedisCluster.PRIMARIES)
            return {"": await self._client.info(section)}

        try:
            answer = await guard(ask, self._address)
        except ResponseError as error:  # a user that may not ask
            if not self._refused:
                log.info("Redis does not say whether it drops keys", error=str(error))
            self._refused = True
            return []
        several = all(isinstance(one, dict) for one in answer.values())
        return list(answer.values()) if several else [answer]


async def guard(call: Callable[[], Awaitable[T]], address: str) -> T:
    """Await `call()`, turning what the server's absence raises into `Unavailable`."""
    try:
        return await call()
    except _PASSING as error:
        raise Unavailable("Redis", address, SETTING, error) from None
    except RedisError as error:
        if str(error).startswith(_PASSING_CODES):
            raise Unavailable("Redis", address, SETTING, error) from None
        raise


async def connect(url: str, address: str, timeout: float) -> Redis | RedisCluster:
    """A client for the server at `url`, or for the cluster that it belongs to."""
    # one more try replaces a connection that a restart of the server has closed
    retry = Retry(ConstantBackoff(0.01), 1)
    try:
        client = Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry
        )
    except ValueError as error:
        raise ConfigurationError(f"{SETTING}: {address}: {error}") from None
    try:
        info = await guard(lambda: client.info("cluster"), address)
    except BaseException:
        await client.aclose()
        raise
    if not info.get("cluster_enabled"):
        return client
    await client.aclose()
    return RedisCluster.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry
    )


def public(url: str) -> str:
    """The URL's address without user and password."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path or "an empty address"
