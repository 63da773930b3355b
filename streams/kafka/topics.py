"""A pipeline's topics and consumer groups: named, created, checked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from streams.errors import ConfigurationError
from streams.kafka.connection import MAX_MESSAGE_BYTES, admin_client, away, producer, stop
from streams.settings import Settings
from streams.spec import Pipeline


def group_id(pipeline: str, role: str) -> str:
    """The consumer group of a pipeline's workers; `role` is `score` or `label`."""
    return f"driftloop.{pipeline}.{role}"


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


async def topic_exists(settings: Settings, topic: str) -> bool:
    """Whether there is such a topic; asking does not create it. Raises `Unavailable`."""
    async with admin_client(settings) as admin:
        return topic in await admin.list_topics()


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
