"""The Redis server: connecting to it, what its absence raises, and that it forgets nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    InvalidResponse,
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
from streams.addresses import public
from streams.errors import ConfigurationError, DriftloopError, NotAnswering, Unavailable

log = structlog.get_logger(__name__)

SETTING = "DRIFTLOOP_REDIS"
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_FIRST = 3.0
"""Seconds that the first answer may take."""
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
_STOPS = (
    (("maxmemory", "OOM"), "is full and takes no writes", "raise its maxmemory"),
    (
        ("read only", "READONLY"),
        "is a replica, which takes no writes",
        f"set {SETTING} to the primary, unless a failover is under way",
    ),
    (("MISCONF",), "takes no writes", "mend what its own log says of its disk"),
)
"""What a server that is there says while it stores nothing, and what to do."""
_MAY_NOT = ("no permissions", "No permissions", "ACL failure")
_Refusal = tuple[tuple[str, ...], str, str]
_REFUSALS: tuple[tuple[type[Exception], _Refusal], ...] = (
    (
        ResponseError,
        (_MAY_NOT, "does not allow this to us", "grant the user what docs/operations.md lists"),
    ),
    (
        RedisError,
        (
            ("NOAUTH", "WRONGPASS", "invalid password", "invalid username", "AUTH"),
            "does not accept our user and password",
            f"give them in {SETTING}, as rediss://user:password@host:port/0",
        ),
    ),
    (
        RedisError,
        (
            ("DB index", "SELECT is not allowed"),
            "has no database of that number",
            f"end {SETTING} with /0, or raise the server's `databases`",
        ),
    ),
    (
        Exception,
        (
            ("CERTIFICATE", "certificate"),
            "and we do not accept one another's certificate",
            f"name the CA that signed the server's: {SETTING}=rediss://...?ssl_ca_certs=ca.pem "
            "(and ours: ssl_certfile, ssl_keyfile)",
        ),
    ),
    (
        Exception,
        (
            ("SSL", "record layer"),
            "speaks no TLS there",
            f"begin {SETTING} with redis://, or give its TLS port",
        ),
    ),
)
"""By kind of error: signs in what it says, what is wrong, and what mends it."""

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
        nodes = await self.info("memory")
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
        complaint = self._complaint(await self.info("memory"))
        if complaint and complaint != self._said:
            log.error(complaint)
        elif self._said and not complaint:
            log.info("Redis drops no keys any more", address=self._address)
        self._said = complaint
        evicted = sum(int(one.get("evicted_keys", 0)) for one in await self.info("stats"))
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

    async def info(self, section: str) -> list[dict[str, Any]]:
        """What each node says in a section of INFO; nothing where we may not ask.

        Raises:
            Unavailable: it is away.
        """

        async def ask() -> Any:
            if isinstance(self._client, RedisCluster):
                return await self._client.info(section, target_nodes=RedisCluster.PRIMARIES)
            return {"": await self._client.info(section)}

        try:
            answer = await guard(ask, self._address)
        except ResponseError as error:  # a user that may not ask
            if not self._refused:
                log.info(
                    "Redis does not say whether it drops keys, nor how loaded it is",
                    error=str(error),
                )
            self._refused = True
            return []
        several = all(isinstance(one, dict) for one in answer.values())
        return list(answer.values()) if several else [answer]


async def guard(call: Callable[[], Awaitable[T]], address: str) -> T:
    """Await `call()`, turning what the server's absence raises into `Unavailable`."""
    try:
        return await call()
    except _PASSING as error:
        raise _passing(error, address) from None
    except RedisError as error:
        if str(error).startswith(_PASSING_CODES):
            raise _passing(error, address) from None
        raise


def _passing(error: Exception, address: str) -> Unavailable:
    """What to raise for an error that ends by itself, or by an operator's help."""
    said = " ".join(str(error).split())
    for signs, problem, mend in _STOPS:
        if any(sign in said for sign in signs):
            return NotAnswering(f"Redis at {address} {problem} ({said}) - {mend}")
    return Unavailable("Redis", address, SETTING, said)


async def greet(url: str) -> dict[str, Any]:
    """What the server says of its cluster. Asked once, so that a mistake in the address shows soon.

    Raises:
        Unavailable: no server there.
        NotAnswering: somebody listens there, and is no Redis.
        ConfigurationError: the server refuses us, or the address is none.
    """
    try:
        client = Redis.from_url(
            url, socket_timeout=_FIRST, socket_connect_timeout=_FIRST, retry=Retry(NoBackoff(), 0)
        )
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{SETTING}: {public(url)}: {error}") from None
    try:
        found: dict[str, Any] = await client.info("cluster")
        return found
    except (RedisError, OSError) as error:
        raise refusal(error, url) from None
    finally:
        await client.aclose()


async def connect(url: str, timeout: float) -> Redis | RedisCluster:
    """A client for the server at `url`, or for the cluster that it is of. Raises as `greet`."""
    # one more try replaces a connection that a restart of the server has closed
    retry = Retry(ConstantBackoff(0.01), 1)
    kind = RedisCluster if (await greet(url)).get("cluster_enabled") else Redis
    return kind.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry)


def may_not(error: ResponseError) -> bool:
    """Whether the server's user lacks a command, or leave for a key."""
    return any(sign in str(error) for sign in _MAY_NOT)


def refusal(error: Exception, url: str) -> DriftloopError:
    """What to raise for the first error of a server: why it does not serve us, in one line."""
    address, said = public(url), " ".join(str(error).split())
    options = parse_qs(urlsplit(url).query)
    named = [path for name in _FILES for path in options.get(name, ())]
    if missing := [path for path in named if not Path(path).exists()]:
        return ConfigurationError(
            f"{SETTING} names {missing[0]} and there is no such file - give the path of a PEM file"
        )
    for kind, (signs, problem, mend) in _REFUSALS:
        if isinstance(error, kind) and any(sign in said for sign in signs):
            return ConfigurationError(f"Redis at {address} {problem} ({said}) - {mend}")
    if isinstance(error, InvalidResponse | RedisTimeoutError) or "closed by server" in said:
        return NotAnswering(
            f"somebody listens at {address} and does not answer as Redis ({said}) - see that the "
            f"port in {SETTING} is Redis's, and whether it wants rediss:// (TLS)"
        )
    return Unavailable("Redis", address, SETTING, said)
