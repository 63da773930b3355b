"""Kafka clients, made from the settings."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_fixed

from streams.aio.cancelling import cancel
from streams.errors import ConfigurationError, DriftloopError, Unavailable
from streams.kafka.reaching import not_allowed, reach
from streams.settings import Settings

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 2 << 20
"""Dead letters carry the whole record, which may be as large as the broker took, and headers."""


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context for Kafka; None where the protocol has no TLS.

    Raises:
        ConfigurationError: a certificate file cannot be read.
    """
    if "SSL" not in settings.kafka_security_protocol:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.kafka_cafile)
        if settings.kafka_certfile:
            context.load_cert_chain(settings.kafka_certfile, settings.kafka_keyfile)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read Kafka's TLS files ({error}) - check DRIFTLOOP_KAFKA_CAFILE, "
            "DRIFTLOOP_KAFKA_CERTFILE and DRIFTLOOP_KAFKA_KEYFILE"
        ) from None
    return context


def _not_in_the_clear(record: logging.LogRecord) -> bool:
    """Whether aiokafka's line is worth a line: settings let a password go without TLS to loopback
    only, and aiokafka would say so at each connection."""
    return "password in the clear" not in str(record.msg)


logging.getLogger("aiokafka.conn").addFilter(_not_in_the_clear)


def client_options(settings: Settings) -> dict[str, Any]:
    """Options that every aiokafka client takes: addresses, TLS and SASL."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka,
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": ssl_context(settings),
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_username
        options["sasl_plain_password"] = settings.kafka_password.get_secret_value()
    return options


def away(settings: Settings, reason: object) -> DriftloopError:
    """What to raise where no broker answers, or it refuses us: for an error, or for a reason."""
    if isinstance(reason, BaseException):
        if refused := not_allowed(settings, reason):
            return refused
        reason = type(reason).__name__
    return Unavailable("Kafka", settings.kafka, "DRIFTLOOP_KAFKA", reason)


@contextmanager
def unavailable(settings: Settings) -> Iterator[None]:
    """Turns the errors of a client that finds no broker into `Unavailable`.

    Raises:
        ConfigurationError: the brokers do not allow what was asked.
    """
    try:
        yield
    except (KafkaError, OSError) as error:
        raise away(settings, error) from None


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that is connected.

    Raises:
        Unavailable: no broker answered within `connect_timeout`, or one not as it should.
        ConfigurationError: the brokers refuse us, or what is asked.
    """
    options = client_options(settings)
    # a server that is not there may come; one that does not serve us will not change
    patiently = AsyncRetrying(
        retry=retry_if_exception(lambda error: type(error) is Unavailable),
        stop=stop_after_delay(settings.connect_timeout),
        wait=wait_fixed(0.25),
        reraise=True,
    )
    await patiently(reach, settings, options)
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=10_000)
    try:
        with unavailable(settings):
            await admin.start()
        yield admin
    except KafkaError as error:  # of what is asked
        raise away(settings, error) from None
    finally:
        await admin.close()


async def serves_groups(settings: Settings) -> bool:
    """Whether the broker serves clients and groups now."""
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=3000)
    try:
        await admin.start()
        # the first look-up makes the broker create its internal topic of group offsets
        await admin.find_coordinator("driftloop")
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
    return True


def reader(settings: Settings, *topics: str, start: str = "earliest") -> AIOKafkaConsumer:
    """A consumer without a group that reads committed records; `start` says where it begins."""
    return AIOKafkaConsumer(
        *topics,
        **client_options(settings),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset=start,
        max_partition_fetch_bytes=4 << 20,
        # partitions that are added are noticed within this time
        metadata_max_age_ms=30_000,
    )


class Producer(AIOKafkaProducer):  # type: ignore[misc]
    """A producer that can be given up."""

    async def abandon(self) -> None:
        """End it without delivering what it still has.

        Stock waits for its requests when it stops, and tries to deliver what it has: what a new
        producer has written meanwhile would come twice, or the old one would stay for ever.
        """
        self._closed = True
        sending = self._sender.sender_task if self._sender is not None else None
        if sending is not None:
            sending.cancel()
        await self.client.close()  # its requests end as well
        if sending is not None:
            await cancel(sending)


def producer(settings: Settings, **options: Any) -> Producer:
    """An idempotent producer that takes records as large as a dead letter may be."""
    return Producer(
        **client_options(settings),
        enable_idempotence=True,
        max_batch_size=1 << 20,
        max_request_size=MAX_MESSAGE_BYTES,
        **options,
    )


async def stop(failed: Producer) -> None:
    """End a producer that may be broken; ignore its errors. What it still has is not delivered."""
    try:
        await failed.abandon()
    except (KafkaError, OSError) as error:
        log.debug("producer did not stop cleanly", error=repr(error))
