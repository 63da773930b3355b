"""Producers that can be replaced, and retries while Kafka is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from streams.kafka.connection import stop

log = structlog.get_logger(__name__)

# IllegalOperation: what a producer answers once a request before has failed or was fenced
TRANSIENT = (KafkaError, IllegalOperation, TimeoutError, OSError)


class ReplaceableProducer:
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


def patiently() -> AsyncRetrying:
    """Retries for as long as Kafka is away."""
    return AsyncRetrying(
        retry=retry_if_exception_type(TRANSIENT),
        wait=wait_exponential_jitter(multiplier=0.1, max=1, jitter=0.1),
        before_sleep=_log_retry,
        reraise=True,
    )


def _log_retry(state: Any) -> None:
    log.warning(
        "kafka is away, retrying",
        attempt=state.attempt_number,
        error=repr(state.outcome.exception()),
    )
