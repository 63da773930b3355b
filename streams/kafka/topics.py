"""A pipeline's topics and consumer groups: named, created, checked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import (
    BrokerResponseError,
    InvalidPartitionsError,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest

from streams.errors import ConfigurationError
from streams.kafka.connection import MAX_MESSAGE_BYTES, admin_client, away, producer, stop
from streams.kafka.reaching import not_allowed
from streams.kafka.retention import check, needed
from streams.settings import Settings
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

_ANSWERS = 3
"""A broker that is there may take so many times as long as one that is waited for at all."""


def group_id(pipeline: str, role: str) -> str:
    """The consumer group of a pipeline's workers: of those that `score`, `label`, and so on."""
    return f"driftloop.{pipeline}.{role}"


def topics_read(pipeline: Pipeline, role: str) -> tuple[str, ...]:
    """The topics that a pipeline's workers of a role share out, partition by partition."""
    topics = pipeline.topics
    return {
        "score": (topics.events,),
        "label": (topics.scored, topics.feedback),
        "evaluate": (topics.examples, topics.scored),
        "shadow": (topics.scored, topics.examples),
    }[role]


def groups(pipeline: Pipeline) -> dict[str, str]:
    """The consumer group that reads each topic; topics that no group reads are left out."""
    topics, name = pipeline.topics, pipeline.name
    return {
        topics.events: group_id(name, "score"),
        topics.scored: group_id(name, "label"),
        topics.feedback: group_id(name, "label"),
        topics.examples: group_id(name, "evaluate"),
    }


async def ensure_topics(settings: Settings, pipeline: Pipeline) -> int:
    """Create the pipeline's topics where they are missing; they keep what the pipeline needs.

    Where the events topic has been given more partitions, the others follow. Returns how many
    partitions the events have.

    Raises:
        Unavailable: no broker answered.
        ConfigurationError: a topic has more partitions than the events, or cannot be made, or seen.
    """
    topics = pipeline.topics
    async with admin_client(settings) as admin:
        described = await _described(admin, *topics.partitioned, *topics.single)
        found = {t["topic"]: len(t["partitions"]) for t in described if t["error_code"] == 0}
        _check_allowed(settings, described)
        # topics that are added later follow the events' partitions
        count = found.get(topics.events, settings.partitions)
        wanted = dict.fromkeys(topics.partitioned, count) | dict.fromkeys(topics.single, 1)
        keep = needed(pipeline)
        for name in wanted.keys() - found.keys():
            config = keep[name].as_config()
            if name == topics.dead_letters:
                config["max.message.bytes"] = str(MAX_MESSAGE_BYTES)
            await _create(settings, admin, name, wanted[name], config)
        if any(partitions < wanted[name] for name, partitions in found.items()):
            log.warning("the events have more partitions, other topics get as many", now=count)
        for name, partitions in found.items():
            if partitions < wanted[name]:
                await _grow(settings, admin, name, wanted[name])
            elif partitions > wanted[name] and name not in topics.single:
                raise ConfigurationError(
                    f"topic {name} has {partitions} partitions and {topics.events} {count}, they "
                    "must be equal - give the events as many (keys move to other partitions): "
                    f"kafka-topics.sh --bootstrap-server {settings.kafka} --alter "
                    f"--topic {topics.events} --partitions {partitions}"
                )
        await _wait_for_topics(settings, admin, wanted)
    return count


async def check_retention(settings: Settings, pipeline: Pipeline) -> None:
    """Say in the log which topics keep too little, with the command that mends it.

    Raises:
        Unavailable: no broker answered.
    """
    for line in await keeping_too_little(settings, pipeline):
        log.warning(line)


async def keeping_too_little(settings: Settings, pipeline: Pipeline) -> list[str]:
    """A line for each of the pipeline's topics that keeps too little. Raises `Unavailable`."""
    async with admin_client(settings) as admin:
        return await check(settings, admin, needed(pipeline))


async def _described(admin: AIOKafkaAdminClient, *topics: str) -> Sequence[Mapping[str, Any]]:
    """What the brokers say of topics. aiokafka's own question makes those that are missing, with
    one partition, where the brokers make topics for whoever asks (Kafka's default)."""
    answer = await admin._send_request(MetadataRequest(list(topics), False))
    found: Sequence[Mapping[str, Any]] = answer.to_object()["topics"]
    return found


def _check_allowed(settings: Settings, described: Iterable[Mapping[str, Any]]) -> None:
    """A topic that we may not see is not one that is missing. Raises `ConfigurationError`."""
    hidden = sorted(
        one["topic"]
        for one in described
        if one["error_code"] == TopicAuthorizationFailedError.errno
    )
    if hidden:
        raise away(settings, TopicAuthorizationFailedError(", ".join(hidden)))


async def _create(
    settings: Settings, admin: AIOKafkaAdminClient, name: str, partitions: int, config: Any
) -> None:
    new = NewTopic(name, partitions, settings.replication, topic_configs=config)
    with _explained(settings, f"create topic {name}"), suppress(TopicAlreadyExistsError):
        # it exists where another worker was faster
        response = await admin.create_topics([new])
        for _, code, *rest in response.topic_errors:
            if code:
                raise for_code(code)(*rest)


async def _grow(settings: Settings, admin: AIOKafkaAdminClient, name: str, partitions: int) -> None:
    """Give a topic more partitions, as its events have been given."""
    with _explained(settings, f"add partitions to topic {name}"), suppress(InvalidPartitionsError):
        # it has them where another worker was faster, though the broker may not show them yet
        await admin.create_partitions({name: NewPartitions(partitions)})


@contextmanager
def _explained(settings: Settings, what: str) -> Iterator[None]:
    """Turns a broker's refusal into one line. What passes by itself, or is expected, goes through.

    Raises:
        ConfigurationError: the broker refuses.
    """
    try:
        yield
    except (TopicAlreadyExistsError, InvalidPartitionsError, KafkaConnectionError):
        raise
    except BrokerResponseError as error:
        if refused := not_allowed(settings, error):
            raise refused from None
        said = " ".join(str(error).split())
        raise ConfigurationError(
            f"Kafka does not {what} ({said}) - see that we may do that, and that "
            "DRIFTLOOP_REPLICATION and DRIFTLOOP_PARTITIONS are what the brokers allow"
        ) from None


async def topic_exists(settings: Settings, topic: str) -> bool:
    """Whether there is such a topic.

    Raises:
        Unavailable: no broker answered.
        ConfigurationError: we may not see it.
    """
    async with admin_client(settings) as admin:
        described = await _described(admin, topic)
    _check_allowed(settings, described)
    return not described[0]["error_code"]


async def check_transactions(settings: Settings, group: str) -> None:
    """Open a transactional producer once, as the workers of a group do for each partition.

    Raises:
        ConfigurationError: the brokers do not run transactions, or not for us.
        Unavailable: no broker is there.
    """
    probe = producer(settings, transactional_id=f"{group}-check")
    seconds = _ANSWERS * settings.connect_timeout
    reason: object = f"no answer in {seconds:g} s"
    try:
        async with asyncio.timeout(seconds):
            await probe.start()
        return
    except TimeoutError:
        pass
    except KafkaConnectionError as error:
        raise away(settings, error) from None
    except KafkaError as error:
        if refused := not_allowed(settings, error):
            raise refused from None
        reason = repr(error)
    finally:
        await stop(probe)
    raise ConfigurationError(
        f"Kafka at {settings.kafka} does not run transactions ({reason}) - see that its "
        "transaction.state.log.replication.factor is not above the number of brokers and that we "
        "may write transactional ids `driftloop.*`, or set DRIFTLOOP_DELIVERY=at_least_once"
    )


async def _wait_for_topics(
    settings: Settings, admin: AIOKafkaAdminClient, wanted: Mapping[str, int]
) -> None:
    found: dict[str, int] = {}
    try:
        async with asyncio.timeout(_ANSWERS * settings.connect_timeout):
            while True:
                described = await _described(admin, *wanted)
                found = {t["topic"]: len(t["partitions"]) for t in described if not t["error_code"]}
                if all(found.get(name, 0) >= partitions for name, partitions in wanted.items()):
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        missing = ", ".join(name for name in wanted if name not in found) or "some partitions"
        raise away(settings, f"it does not show {missing}") from None
