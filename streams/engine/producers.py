"""Producers that can be replaced, and retries while Kafka is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from aiokafka import errors
from aiokafka.errors import IllegalOperation, KafkaError
from tenacity import AsyncRetrying, retry_if_exception, wait_exponential_jitter

from streams.errors import DriftloopError
from streams.kafka.connection import MAX_MESSAGE_BYTES, Producer, stop

log = structlog.get_logger(__name__)

# IllegalOperation: what a producer answers once a request before has failed or was fenced
TRANSIENT = (KafkaError, IllegalOperation, TimeoutError, OSError)
_FINAL = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidTopicError,
    errors.InvalidTimestampError,
    errors.InvalidRequiredAcksError,
    errors.InvalidTransactionTimeout,
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.UnsupportedVersionError,
    errors.UnsupportedForMessageFormatError,
    errors.PolicyViolationError,
)
"""What no retry mends."""
_LONGEST_PAUSE = 2.0


class Refused(DriftloopError):
    """Kafka refuses what is written, and would refuse it again: the worker ends, and says so."""

    def __init__(self, error: BaseException) -> None:
        said = " ".join(str(error).split()) or "no reason given"
        super().__init__(
            f"Kafka refuses what is written ({type(error).__name__}: {said}) - see that we may "
            f"write the pipeline's topics and that they take messages of {MAX_MESSAGE_BYTES:,} "
            "bytes (message.max.bytes, max.message.bytes); nothing was lost"
        )


def require_transient(error: BaseException) -> None:
    """Raise `Refused` for an error that no retry mends."""
    if isinstance(error, _FINAL):
        raise Refused(error) from None


class Backoff:
    """Pauses between attempts that fail one after the other: none at first, then longer ones."""

    def __init__(self) -> None:
        self._failures = 0

    async def failed(self) -> None:
        """Take note of a failure, and pause."""
        self._failures += 1
        if self._failures > 1:
            await asyncio.sleep(min(_LONGEST_PAUSE, 0.05 * 2**self._failures))

    def succeeded(self) -> None:
        """Begin anew."""
        self._failures = 0


class ReplaceableProducer:
    """A producer that is replaced when it fails; several writers may share it."""

    def __init__(self, new_producer: Callable[[], Any], timeout: float) -> None:
        self._new_producer = new_producer
        self._timeout = timeout
        self._producer: Producer | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> Producer:
        """The producer, started."""
        return self._producer or await self.replace(None)

    async def replace(self, failed: Producer | None) -> Producer:
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
        except BaseException as error:
            await stop(producer)
            require_transient(error)
            raise
        self._producer = producer


def patiently() -> AsyncRetrying:
    """Retries for as long as Kafka is away."""
    return AsyncRetrying(
        retry=retry_if_exception(_passes),
        wait=wait_exponential_jitter(multiplier=0.1, max=1, jitter=0.1),
        before_sleep=_log_retry,
        reraise=True,
    )


def _passes(error: BaseException) -> bool:
    require_transient(error)
    return isinstance(error, TRANSIENT)


def _log_retry(state: Any) -> None:
    log.warning(
        "Kafka does not answer, trying again",
        attempt=state.attempt_number,
        error=repr(state.outcome.exception()),
    )
