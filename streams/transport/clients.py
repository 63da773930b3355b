"""Kafka clients from the settings, and the pipeline's topics."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from streams.errors import ConfigurationError, Unavailable
from streams.settings import Settings
from streams.spec import Pipeline
from streams.transport.mends import mend

log = structlog.get_logger(__name__)

mend()

MAX_MESSAGE_BYTES = 2 << 20
"""Dead letters carry the whole record, which may be as large as the broker took, and headers."""
_READ_AGAIN = 0.25
"""Seconds until a broker that is away is asked again for a range of records."""


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


def group_id(pipeline: str, role: str) -> str:
    """The consumer group of a pipeline's workers; `role` is `score` or `label`."""
    return f"driftloop.{pipeline}.{role}"


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


def away(settings: Settings, reason: object) -> Unavailable:
    """What to raise where no broker answers."""
    if isinstance(reason, BaseException):
        reason = type(reason).__name__
    return Unavailable("Kafka", settings.kafka, "DRIFTLOOP_KAFKA", reason)


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client that is connected.

    Raises:
        Unavailable: no broker answered within `connect_timeout`.
    """
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=10_000)
    patiently = AsyncRetrying(
        retry=retry_if_exception_type((KafkaError, OSError)),
        stop=stop_after_delay(settings.connect_timeout),
        wait=wait_fixed(0.25),
        reraise=True,
    )
    try:
        try:
            await patiently(admin.start)
        except (KafkaError, OSError) as error:
            raise away(settings, error) from None
        yield admin
    finally:
        await admin.close()


async def ensure_topics(settings: Settings, pipeline: Pipeline) -> None:
    """Create the pipeline's topics where they are missing.

    Raises:
        Unavailable: no broker answered.
        ConfigurationError: topics exist whose partitions do not match one another.
    """
    topics = pipeline.topics
    wanted = dict.fromkeys(topics.partitioned, settings.partitions) | {topics.models: 1}
    configs = {
        topics.models: {"retention.ms": "-1", "retention.bytes": "-1"},
        topics.dead_letters: {"max.message.bytes": str(MAX_MESSAGE_BYTES)},
    }
    async with admin_client(settings) as admin:
        described = await admin.describe_topics(list(wanted))
        found = {t["topic"]: len(t["partitions"]) for t in described if t["error_code"] == 0}
        if topics.events in found:  # topics that are added later follow the events' partitions
            wanted = dict.fromkeys(topics.partitioned, found[topics.events]) | {topics.models: 1}
        for name, partitions in found.items():
            if partitions != wanted[name]:
                raise ConfigurationError(
                    f"topic {name} has {partitions} partitions, {topics.events} has "
                    f"{wanted[name]} - they must be equal: recreate {name}"
                )
        for name in wanted.keys() - found.keys():
            new = NewTopic(
                name, wanted[name], settings.replication, topic_configs=configs.get(name)
            )
            with suppress(TopicAlreadyExistsError):  # another worker was faster
                _raise_topic_errors(await admin.create_topics([new]))
        await _wait_for_topics(admin, list(wanted), settings.connect_timeout)


async def check_transactions(settings: Settings, name: str) -> None:
    """Open a transactional producer once.

    Raises:
        ConfigurationError: the brokers do not run transactions, or not for us.
        Unavailable: no broker is there.
    """
    probe = producer(settings, transactional_id=f"driftloop.{name}.check")
    reason: object = f"no answer in {settings.connect_timeout:g} s"
    try:
        async with asyncio.timeout(settings.connect_timeout):
            await probe.start()
        return
    except TimeoutError:
        pass
    except KafkaConnectionError as error:
        raise away(settings, error) from None
    except KafkaError as error:
        reason = repr(error)
    finally:
        await stop(probe)
    raise ConfigurationError(
        f"Kafka at {settings.kafka} does not run transactions ({reason}) - see that its "
        "transaction.state.log.replication.factor is not above the number of brokers and that we "
        "may write transactional ids `driftloop.*`, or set DRIFTLOOP_DELIVERY=at_least_once"
    )


def _raise_topic_errors(response: Any) -> None:
    from aiokafka.errors import for_code

    for _, code, *rest in response.topic_errors:
        if code:
            raise for_code(code)(*rest)


async def _wait_for_topics(admin: AIOKafkaAdminClient, names: list[str], timeout: float) -> None:
    async with asyncio.timeout(timeout):
        while True:
            described = await admin.describe_topics(names)
            if all(t["error_code"] == 0 and t["partitions"] for t in described):
                return
            await asyncio.sleep(0.05)


async def committed_offsets(
    settings: Settings, group: str, partitions: list[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """The group's committed offset by partition, None where it has none.

    Raises:
        Unavailable: the group's coordinator is not ready within `connect_timeout`, or went away.
    """
    try:
        async with admin_client(settings) as admin:
            deadline = time.monotonic() + settings.connect_timeout
            while True:
                found = await admin.list_consumer_group_offsets(group, partitions=partitions)
                if len(found) >= len(partitions):
                    break
                # a coordinator that still loads its log names no partition, and aiokafka no error
                if time.monotonic() > deadline:
                    raise away(settings, "groups are loading")
                await asyncio.sleep(0.1)
    except (KafkaError, OSError) as error:
        raise away(settings, error) from None
    return {tp: meta.offset if meta.offset >= 0 else None for tp, meta in found.items()}


async def read_range(
    settings: Settings, partition: TopicPartition, first: int, end: int, batch: int = 4096
) -> AsyncIterator[list[ConsumerRecord]]:
    """Committed records of [first, end) in offset order, in lists of at most `batch`.

    Waits while Kafka is away, and goes on where it was. Offsets that retention has deleted are
    passed over.
    """
    position = first
    while position < end:
        try:
            async with _reader_at(settings, partition, position) as consumer:
                while (position := await consumer.position(partition)) < end:
                    found = await consumer.getmany(timeout_ms=500, max_records=batch)
                    records = [r for r in found.get(partition, []) if r.offset < end]
                    if records:
                        position = records[-1].offset + 1
                        yield records
        except (KafkaError, OSError) as error:
            log.warning("kafka is away, retrying", reading=partition.topic, error=repr(error))
            await asyncio.sleep(_READ_AGAIN)


@asynccontextmanager
async def _reader_at(
    settings: Settings, partition: TopicPartition, first: int
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer at an offset of a partition, or at the first that retention has left above it."""
    consumer = reader(settings)
    try:
        await consumer.start()
        consumer.assign([partition])
        start = (await consumer.beginning_offsets([partition]))[partition]
        consumer.seek(partition, max(first, start))
        yield consumer
    finally:
        await asyncio.shield(consumer.stop())  # half stopped, it would fetch for ever


async def lag(settings: Settings, group: str, topics: list[str]) -> Mapping[TopicPartition, int]:
    """Records between the group's committed offset and the end of the log, by partition."""
    consumer = reader(settings)
    await consumer.start()
    try:
        partitions = [tp for topic in topics for tp in await partitions_of(consumer, topic)]
        ends = await consumer.end_offsets(partitions)
        starts = await consumer.beginning_offsets(partitions)
    finally:
        await consumer.stop()
    committed = await committed_offsets(settings, group, partitions)
    return {tp: ends[tp] - max(committed[tp] or 0, starts[tp]) for tp in partitions}


def reader(settings: Settings, *topics: str, start: str = "earliest") -> AIOKafkaConsumer:
    """A consumer of no group that sees what is committed; `start` is for where it has no offset."""
    return AIOKafkaConsumer(
        *topics,
        **client_options(settings),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset=start,
        max_partition_fetch_bytes=4 << 20,
    )


def producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """An idempotent producer that takes records as large as a dead letter may be."""
    return AIOKafkaProducer(
        **client_options(settings),
        enable_idempotence=True,
        max_batch_size=1 << 20,
        max_request_size=MAX_MESSAGE_BYTES,
        **options,
    )


async def stop(failed: AIOKafkaProducer) -> None:
    """Stop a producer that may be beyond help: its errors change nothing any more."""
    try:
        async with asyncio.timeout(2.0):
            await failed.stop()
    except (KafkaError, TimeoutError, OSError) as error:
        log.debug("producer did not stop cleanly", error=repr(error))


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """A topic's partitions; the broker is asked where the client does not know the topic yet."""
    if consumer.partitions_for_topic(topic) is None:
        await consumer._client.force_metadata_update()
    numbers = consumer.partitions_for_topic(topic) or set()
    return [TopicPartition(topic, number) for number in sorted(numbers)]
