"""A client for programs that publish events and labels, and want predictions: no Faust, no torch.

async with Client(pipeline, settings) as client:
    prediction = await client.predict({"order_id": "1", "shopper": "ann", "amount": 12.5})
    await client.label("1", "ann", "returned")
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import msgspec
import structlog
from pydantic import BaseModel

from streams.aio.cancelling import cancel
from streams.dead_letters import parse
from streams.errors import BadRecord, ConfigurationError, Unavailable
from streams.kafka.connection import Producer, producer, unavailable
from streams.kafka.reading import TopicFollower
from streams.ports.batches import SourceRecord
from streams.records import Prediction, decoder
from streams.settings import Settings, load_settings
from streams.spec import Pipeline
from streams.spec.fields import json_name

log = structlog.get_logger(__name__)

_AGAIN = 0.5
"""Seconds after which brokers that are away are asked again."""
_REFUSED = 1000
"""So many refusals are remembered, of events whose acknowledgement is not in yet."""

Place = tuple[int, int]
"""Partition and offset of an event."""


class Client:
    """Publishes a pipeline's events and labels, and tells what was predicted.

    Its methods are for one event loop; many may wait at the same time. Made by `async with`.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings | None = None) -> None:
        """Without settings, those of the environment (`DRIFTLOOP_KAFKA` and so on).

        Raises:
            ConfigurationError: no Kafka is named.
        """
        self._settings = settings or load_settings()
        if not self._settings.kafka:
            raise ConfigurationError("DRIFTLOOP_KAFKA names no broker - set it to host:port")
        self._topics = pipeline.topics
        event = pipeline.event
        self._id, self._key = (json_name(event.schema, name) for name in (event.id, event.key))
        self._decode = decoder(Prediction).decode
        self._opened: Producer | None = None
        self._follower = TopicFollower(
            self._settings, self._topics.predictions, self._topics.dead_letters, start="latest"
        )
        self._following: asyncio.Task[None] | None = None
        self._awaited: dict[str, asyncio.Future[Prediction]] = {}
        self._sent: dict[Place, str] = {}
        """Where awaited events lie."""
        self._refused: OrderedDict[Place, BadRecord] = OrderedDict()
        self._listening: set[asyncio.Queue[Prediction]] = set()

    async def __aenter__(self) -> Self:
        """Connect. Raises `Unavailable`: no broker answers."""
        await self._follower.start()
        self._opened = producer(self._settings, linger_ms=1)
        try:
            with unavailable(self._settings):
                await self._opened.start()
        except BaseException:
            await self._opened.stop()
            await self._follower.stop()
            raise
        self._following = asyncio.create_task(self._follow(), name="predictions")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._following is not None:
            await cancel(self._following)
        for awaited in self._awaited.values():
            awaited.cancel()
        await self._producer.stop()
        await self._follower.stop()

    @property
    def _producer(self) -> Producer:
        assert self._opened is not None, "it is not connected: use `async with`"
        return self._opened

    async def send(self, event: BaseModel | Mapping[str, Any]) -> str:
        """Publish an event; its id, once the brokers have it.

        Raises:
            ValueError: it lacks its id or its key.
            Unavailable: no broker answers.
        """
        event_id, _ = await self._publish(event)
        return event_id

    async def predict(
        self, event: BaseModel | Mapping[str, Any], timeout: float = 30.0
    ) -> Prediction:
        """Publish an event, and wait for what is predicted.

        An event whose id was predicted before is a duplicate, and gets no prediction again.

        Raises:
            BadRecord: the pipeline refuses it; says why.
            TimeoutError: no prediction came in so many seconds.
            ValueError, Unavailable: as `send`.
        """
        event_id = self._named(_mapping(event), self._id)
        awaited = self._awaited.setdefault(event_id, asyncio.get_running_loop().create_future())
        place: Place | None = None
        try:
            async with asyncio.timeout(timeout):
                _, place = await self._publish(event)
                self._sent[place] = event_id
                if (refused := self._refused.pop(place, None)) is not None:
                    raise refused
                return await asyncio.shield(awaited)
        except TimeoutError:
            raise TimeoutError(
                f"no prediction of event {event_id!r} in {timeout:g} s - see that `driftloop up` "
                "or `driftloop score` runs, and that the id is a new one"
            ) from None
        finally:
            if place is not None:
                self._sent.pop(place, None)
            if self._awaited.get(event_id) is awaited:
                del self._awaited[event_id]

    async def label(
        self, event_id: object, key: object, label: float | str | bool, at: float | None = None
    ) -> None:
        """Publish what became of an event: its label, known since `at` (seconds since 1970; now).

        Id and key are the event's.

        Raises:
            Unavailable: no broker answers.
        """
        said = {"event_id": str(event_id), "label": label, "labelled_at": at or time.time()}
        with unavailable(self._settings):
            await self._producer.send_and_wait(
                self._topics.feedback, msgspec.json.encode(said), key=str(key).encode()
            )

    @asynccontextmanager
    async def predictions(self) -> AsyncIterator[AsyncIterator[Prediction]]:
        """All predictions from now on, whoever sent the events."""
        found: asyncio.Queue[Prediction] = asyncio.Queue()
        self._listening.add(found)

        async def each() -> AsyncIterator[Prediction]:
            while True:
                yield await found.get()

        try:
            yield each()
        finally:
            self._listening.discard(found)

    async def _publish(self, event: BaseModel | Mapping[str, Any]) -> tuple[str, Place]:
        said = _mapping(event)
        event_id, key = self._named(said, self._id), self._named(said, self._key)
        with unavailable(self._settings):
            done = await self._producer.send_and_wait(
                self._topics.events, msgspec.json.encode(said), key=key.encode()
            )
        return event_id, (done.partition, done.offset)

    def _named(self, event: Mapping[str, Any], field: str) -> str:
        if event.get(field) is None:
            raise ValueError(f"the event has no {field!r}: it is what names or keys it")
        return str(event[field])

    async def _follow(self) -> None:
        while True:
            try:
                for record in await self._follower.poll():
                    self._take(record)
            except Unavailable as error:
                log.warning("predictions cannot be read", error=str(error))
                await asyncio.sleep(_AGAIN)

    def _take(self, record: SourceRecord) -> None:
        if record.topic == self._topics.dead_letters:
            self._refuse(record)
            return
        with suppress(msgspec.MsgspecError):  # not written by a worker
            prediction = self._decode(record.value or b"")
            awaited = self._awaited.get(prediction.event_id)
            if awaited is not None and not awaited.done():
                awaited.set_result(prediction)
            for found in self._listening:
                found.put_nowait(prediction)

    def _refuse(self, record: SourceRecord) -> None:
        for letter in parse([record])[0]:
            topic, *place = letter.source
            if topic != self._topics.events:
                continue
            at, error = (place[0], place[1]), BadRecord(letter.cause, letter.detail)
            awaited = self._awaited.get(self._sent.get(at, ""))
            if awaited is None:
                self._refused[at] = error
                if len(self._refused) > _REFUSED:
                    self._refused.popitem(last=False)
            elif not awaited.done():
                awaited.set_exception(error)


def _mapping(event: BaseModel | Mapping[str, Any]) -> Mapping[str, Any]:
    return event.model_dump(mode="json", by_alias=True) if isinstance(event, BaseModel) else event
