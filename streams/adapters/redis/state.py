"""Feature state in Redis or Valkey: one server-side call folds a micro-batch.

The work is done in Lua, by `feature_state.lua` and the parts that continue it: one library of
functions that is named by its own content, so that two versions of the code can run side by side.
It answers a batch that starts at the fence; for any other it returns the fence, and what was folded
before is read from the journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError

from streams.adapters.fold_journal import check, first_answered, recall, since
from streams.adapters.redis.load import RedisLoad
from streams.adapters.redis.server import Eviction, connect, guard, may_not, refusal
from streams.adapters.redis.wire import Wire
from streams.addresses import public
from streams.aio.coalescing import Coalescer
from streams.errors import ConfigurationError, StateBehind, Unavailable
from streams.ports.features import (
    LEFT_EVENTS,
    MOST_EVENTS,
    FoldBatch,
    Folded,
    LabelBatch,
    LabelsFolded,
    concatenate,
)
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.windows import FoldPlan

_PARTS = tuple(f"feature_{part}.lua" for part in ("state", "scans", "fast", "entity", "calls"))
_BLOCK = 256


class Library(NamedTuple):
    """The functions that the server runs."""

    version: str
    """Part of their names: two versions of the code can run side by side."""
    source: str

    @classmethod
    def of(cls, most: int = MOST_EVENTS, left: int = LEFT_EVENTS, block: int = _BLOCK) -> Library:
        """The functions for entities of at most so many events; `left` stay of one with more.

        Scans remember what they find in so many events at a time, a power of 2.
        """
        source = "\n".join(Path(__file__).with_name(part).read_text() for part in _PARTS)
        names = {"MOST_EVENTS": most, "LEFT_EVENTS": left, "BLOCK_SIZE": block}
        for name, number in names.items():
            source = source.replace(name, str(number))
        version = hashlib.sha256(source.encode()).hexdigest()[:8]
        return cls(version, source.replace("VERSION", version))


_LIBRARY = Library.of()
_LARGE = 1 << 14
"""A call of more bytes (about 256 events) is sent alone: its answer would delay the others."""
_Call = tuple[Any, ...]

T = TypeVar("T")


class RedisFeatureState:
    """`FeatureState` in Redis 7+ or Valkey.

    `client` must not decode responses. Made by `connect`; every method raises `Unavailable` while
    the server is away, and works again once it is back.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        pipeline_name: str,
        plan: FoldPlan,
        address: str = "",
        topic_id: str = "",
        library: Library = _LIBRARY,
    ) -> None:
        self._client = client
        self._library = library
        self._wire = Wire(pipeline_name, plan, topic_id)
        self._plan = plan
        self._address = address or "the client's address"
        self.eviction = Eviction(client, self._address)
        self.load = RedisLoad(self.eviction.info)
        self._small_calls: Coalescer[_Call, Any] = Coalescer(self._round_trip)

    @classmethod
    async def connect(
        cls,
        url: str,
        pipeline_name: str,
        plan: FoldPlan,
        timeout: float = 10.0,
        topic_id: str = "",
        library: Library = _LIBRARY,
    ) -> RedisFeatureState:
        """Connect to `redis[s]://[user:password@]host:port/db` and load the functions.

        The server may be a node of a Redis Cluster. `timeout` is in seconds, for connecting and
        for each call. The state is of events of the topic of this id: of another, there is none.

        Raises:
            Unavailable: no server there.
            ConfigurationError: the address is none, or the server refuses us, or it cannot run
                functions.
        """
        address = public(url)
        client = await connect(url, timeout)
        state = cls(client, pipeline_name, plan, address, topic_id, library)
        try:
            await state.eviction.require_none()
            await state._guard(state._load)
            await state._rehearse()
        except ResponseError as error:
            await client.aclose()
            if may_not(error):
                raise refusal(error, url) from None
            raise ConfigurationError(
                f"Redis at {address} does not load our functions ({error}) - "
                "use Redis 7 or Valkey, with a user that may call FUNCTION and FCALL"
            ) from None
        except BaseException:
            await client.aclose()
            raise
        return state

    @classmethod
    async def of(
        cls, settings: Settings, pipeline: Pipeline, topic_id: str = ""
    ) -> RedisFeatureState:
        """The state of a pipeline in the server that the settings name. Raises as `connect`."""
        return await cls.connect(
            settings.redis.get_secret_value(), pipeline.name, pipeline.plan, topic_id=topic_id
        )

    async def fold(self, batch: FoldBatch) -> Folded:
        """Count events in; see `streams.ports.features.FeatureState.fold`.

        Raises:
            StateBehind: the state ends before `batch.first`, or is not whole and has to be.
            StateLost: an offset was folded before and its answer has been dropped as committed.
            Unavailable: the server is away; whether it has folded does not matter to a retry.
        """
        check(self._plan, batch)
        keys = [self._key("f", batch.partition), self._key("j", batch.partition)]
        keys += [self._whole] if batch.whole else []
        parts: list[Folded] = []
        while True:
            reply = await self._call("fold", keys, self._wire.fold(batch))
            if isinstance(reply, bytes):
                parts.append(self._wire.answer(reply).folded)
                break
            fence = int(reply)
            if fence < batch.first or fence < 0:
                raise StateBehind(batch.partition, max(0, fence), batch.first)
            blobs = await self._guard(lambda: self._client.lrange(keys[1], 0, -1))
            answers = [self._wire.answer(blob) for blob in blobs if isinstance(blob, bytes)]
            parts.append(recall(answers, batch, fence, self._plan.width))
            if batch.next <= fence:
                break
            batch = since(batch, fence)
        return parts[0] if len(parts) == 1 else concatenate(parts)

    async def fold_labels(self, batch: LabelBatch) -> LabelsFolded:
        """Add labels; see `streams.ports.features.FeatureState.fold_labels`.

        Raises:
            StateBehind: the fence is below `batch.first`.
            Unavailable: the server is away.
        """
        keys = [self._key(f"l:{batch.stream}", batch.partition)]
        reply = await self._call("labels", keys, self._wire.fold_labels(batch))
        if isinstance(reply, int):
            raise StateBehind(batch.partition, reply, batch.first)
        return LabelsFolded(*reply)

    async def position(self, partition: int) -> int | None:
        """The next offset that the partition's fold expects; None when it never folded.

        Raises:
            Unavailable: the server is away.
        """
        value = await self._value("f", partition)
        return int.from_bytes(value[:8], "little") if value else None

    async def answered(self, partition: int) -> int | None:
        """The first offset of which the answer is kept, or the next one where none is kept.

        Raises:
            Unavailable: the server is away.
        """
        position = await self.position(partition)
        blobs = await self._guard(lambda: self._client.lrange(self._key("j", partition), 0, -1))
        answers = [self._wire.answer(blob) for blob in blobs if isinstance(blob, bytes)]
        return first_answered(answers, position)

    async def label_note(self, partition: int, stream: str = "feedback") -> bytes:
        """The note of the batch that moved a stream's fence last. Raises `Unavailable`."""
        return (await self._value(f"l:{stream}", partition))[8:]

    async def reposition(self, partition: int, offset: int) -> None:
        """Move the fence forward; an offset below it changes nothing. Raises `Unavailable`."""
        await self._call("reposition", [self._key("f", partition)], [offset, self._wire.ttl])

    async def whole(self) -> bool:
        """Whether the state has been declared whole. Raises `Unavailable`."""
        return bool(await self._guard(lambda: self._client.exists(self._whole)))

    async def declare_whole(self, ends: Mapping[int, int]) -> bool:
        """Declare it whole, unless a partition's fence is below its end. Raises `Unavailable`."""
        keys = [self._whole, *(self._key("f", partition) for partition in ends)]
        return bool(await self._call("whole", keys, list(ends.values())))

    async def close(self) -> None:
        """Release connections."""
        await self._client.aclose()

    @property
    def _whole(self) -> str:
        return f"{self._wire.prefix}whole"

    def _key(self, kind: str, partition: int) -> str:
        return f"{self._wire.prefix}{kind}:{partition}"

    async def _value(self, kind: str, partition: int) -> bytes:
        value = await self._guard(lambda: self._client.get(self._key(kind, partition)))
        return value if isinstance(value, bytes) else b""

    async def _load(self) -> None:
        await self._client.function_load(self._library.source, replace=True)

    async def _rehearse(self) -> None:
        """See that the user may do all that the functions do. Raises `ResponseError`."""
        with suppress(Unavailable):  # a server that is full comes back: who works waits for it
            await self._call("rehearse", [f"{self._wire.prefix}rehearsal"], [])

    async def _call(self, function: str, keys: list[str], args: list[bytes | int]) -> Any:
        """Call a function; load the library where the server has lost it."""
        name = f"driftloop_{function}_{self._library.version}"

        async def call() -> Any:
            try:
                return await self._send((name, len(keys), *keys, *args))
            except ResponseError as error:
                if "Function not found" not in str(error):
                    raise
            await self._load()
            return await self._send((name, len(keys), *keys, *args))

        return await self._guard(call)

    async def _send(self, call: _Call) -> Any:
        """Small calls that lanes make at the same moment share a round trip."""
        large = sum(len(arg) for arg in call if isinstance(arg, bytes)) > _LARGE
        if large or isinstance(self._client, RedisCluster):
            return await self._client.fcall(*call)
        return await self._small_calls.ask(call)

    async def _round_trip(self, calls: Sequence[_Call]) -> Sequence[Any]:
        if len(calls) == 1:
            return [await self._client.fcall(*calls[0])]
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.fcall(*call)
        answers: Sequence[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _guard(self, call: Callable[[], Awaitable[T]]) -> T:
        return await guard(call, self._address)
