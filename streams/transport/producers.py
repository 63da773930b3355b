"""Producers that can be replaced, and writing to them by whole record batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from streams.transport.batches import Outputs, Record
from streams.transport.clients import stop

log = structlog.get_logger(__name__)

# IllegalOperation: what a producer answers once a request before has failed or was fenced
TRANSIENT = (KafkaError, IllegalOperation, TimeoutError, OSError)


class Replaceable:
    """A producer that is replaced when it fails; several writers may share it."""

    def __init__(self, new_producer: Callable[[], AIOKafkaProducer], timeout: float) -> None:
        self._new_producer = new_producer
        self._timeout = timeout
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> AIOKafkaProducer:
        """The producer, started."""
        return self._producer or await self.replace(None)

    async def replace(self, failed: AIOKafkaProducer | None) -> AIOKafkaProducer:
        """A new producer, unless the failed one was replaced already; waits for the broker."""
        async with self._lock:
            if self._producer is None or self._producer is failed:
                await self.close()
                await patiently()(self._start)
            assert self._producer is not None
            return self._producer

    async def close(self) -> None:
        """Stop it."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop(producer)

    async def _start(self) -> None:
        producer = self._new_producer()
        try:
            async with asyncio.timeout(self._timeout):
                await producer.start()
        except BaseException:
            await stop(producer)
            raise
        self._producer = producer


async def send(producer: AIOKafkaProducer, outputs: Outputs, partition: int) -> list[Any]:
    """Hand outputs over; returns a future for each record batch, which the broker acknowledges."""
    sent = []
    for topic, records in outputs.items():
        start = 0
        while start < len(records):
            batch = producer.create_batch()
            start = _fill(batch, records, start)
            batch.close()
            sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent


def forget(sent: list[asyncio.Future[Any]]) -> None:
    """Drop what was sent: its outcome is known, or does not matter any more."""
    for one in sent:
        if not one.cancel() and not one.cancelled():
            one.exception()
    sent.clear()


def _fill(batch: BatchBuilder, records: list[Record], start: int) -> int:
    """Append records from `start` on until the batch is full; returns the first that it left.

    `BatchBuilder.append` does the same at three times the cost per record.
    """
    append, offset = batch._builder.append, 0
    for key, value, headers in islice(records, start, None):
        if append(offset, None, key, value, headers) is None:
            break
        offset += 1
    batch._relative_offset = offset
    return start + offset


def patiently() -> AsyncRetrying:
    """Attempts for as long as Kafka is away."""
    return AsyncRetrying(
        retry=retry_if_exception_type(TRANSIENT),
        wait=wait_exponential_jitter(multiplier=0.1, max=1, jitter=0.1),
        before_sleep=_log_retry,
        reraise=True,
    )


def _log_retry(state: Any) -> None:
    log.warning("kafka is away, retrying", attempt=state.attempt_number,
                error=repr(state.outcome.exception()))  # fmt: skip
