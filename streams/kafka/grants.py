"""What the brokers must allow a worker's user: asked before work begins, all of it at once."""

from __future__ import annotations

import asyncio
import time
from typing import Literal, NamedTuple

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
from aiokafka.protocol.group import HeartbeatRequest

from streams.errors import ConfigurationError
from streams.kafka.connection import admin_client
from streams.kafka.topic_ids import operations
from streams.kafka.topics import group_id
from streams.settings import Settings
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

Role = Literal["score", "label", "evaluate", "shadow", "trainer"]

_READ, _WRITE = 1 << 3, 1 << 4
"""Kafka's bits for them."""
_PASSING = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
_PAUSE = 0.1


class Grants(NamedTuple):
    """Topics and groups, and what a worker does with them."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    joined: tuple[str, ...] = ()
    """Groups that it is a member of."""
    watched: tuple[str, ...] = ()
    """Groups whose offsets it looks at."""


def needed(pipeline: Pipeline, role: Role) -> Grants:
    """What a worker of this role cannot do without."""
    topics = pipeline.topics
    score, label = group_id(pipeline.name, "score"), group_id(pipeline.name, "label")
    if role == "score":
        return Grants(
            read=(topics.events, topics.predictions, topics.models),
            write=(topics.predictions, topics.scored, topics.dead_letters, topics.costs),
            joined=(score,),
            watched=(label,),
        )
    if role == "label":
        return Grants(
            read=(topics.scored, topics.feedback),
            write=(topics.examples, topics.feedback, topics.dead_letters, topics.costs),
            joined=(label,),
            watched=(score,),
        )
    if role == "evaluate":
        return Grants(
            read=(topics.examples, topics.scored, topics.models, topics.metrics, topics.drift),
            write=(topics.metrics, topics.drift, topics.dead_letters, topics.costs),
            joined=(group_id(pipeline.name, "evaluate"),),
        )
    if role == "shadow":
        return Grants(
            read=(topics.scored, topics.examples, topics.models),
            write=(topics.shadow, topics.costs),
            joined=(group_id(pipeline.name, "shadow"),),
        )
    watched = (topics.shadow, topics.scored, topics.feedback)
    gradual = pipeline.policies.rollout.gradual
    always = (topics.examples, topics.drift, topics.models, topics.costs)
    return Grants(read=(*always, *(watched if gradual else ())), write=topics.single)


async def check_grants(settings: Settings, pipeline: Pipeline, role: Role) -> None:
    """See that the brokers allow a worker what it needs; its topics are there.

    Raises:
        ConfigurationError: they do not; names each grant that is missing.
        Unavailable: no broker answers.
    """
    wanted = needed(pipeline, role)
    async with admin_client(settings) as admin:
        missing = [
            *await _missing_topics(admin, wanted),
            *await _missing_groups(settings, admin, wanted),
        ]
    if missing:
        raise ConfigurationError(
            f"Kafka at {settings.kafka} does not allow {settings.kafka_username or 'this client'} "
            f"all that `{role}` needs - grant {', '.join(missing)}: see docs/operations.md"
        )


async def _missing_topics(admin: AIOKafkaAdminClient, wanted: Grants) -> list[str]:
    allowed = await operations(admin._client, sorted({*wanted.read, *wanted.write}))
    if not allowed:  # brokers before 2.8 do not tell
        return []
    asked = [(_READ, "READ", name) for name in wanted.read]
    asked += [(_WRITE, "WRITE", name) for name in wanted.write]
    return [f"{what} on topic {name}" for bit, what, name in asked if not allowed[name] & bit]


async def _missing_groups(
    settings: Settings, admin: AIOKafkaAdminClient, wanted: Grants
) -> list[str]:
    missing = [f"READ on group {g}" for g in wanted.joined if not await _may(settings, admin, g)]
    for group in wanted.watched:
        try:
            await _coordinator(settings, admin, group)
        except GroupAuthorizationFailedError:
            missing.append(f"DESCRIBE on group {group}")
    return missing


async def _may(settings: Settings, admin: AIOKafkaAdminClient, group: str) -> bool:
    """Whether we may be a member: a heartbeat of nobody is refused one way or another."""
    try:
        node = await _coordinator(settings, admin, group)
    except GroupAuthorizationFailedError:
        return False
    if node is None:
        return True
    answer = await admin._send_request(HeartbeatRequest(group, -1, ""), node)
    return bool(answer.error_code != GroupAuthorizationFailedError.errno)


async def _coordinator(settings: Settings, admin: AIOKafkaAdminClient, group: str) -> int | None:
    """The broker that keeps a group; None where that is not settled in `connect_timeout`.

    A cluster's first group makes it create a topic, which takes a moment.
    """
    deadline = time.monotonic() + settings.connect_timeout
    while time.monotonic() < deadline:
        try:
            return int(await admin.find_coordinator(group))
        except _PASSING:
            await asyncio.sleep(_PAUSE)
    log.info("the group has no coordinator yet, whether we may use it will be seen", group=group)
    return None
