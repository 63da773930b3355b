"""The ids of topics: one that is deleted and made anew is another, whatever its name.

aiokafka asks for topics as older brokers know them, without ids (Kafka has them since 2.8). This is
the request with which newer ones answer, `Metadata` in version 10 of Kafka's protocol. It
tells what we may do with them, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any, TypeAlias

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streams.kafka.connection import admin_client
from streams.settings import Settings

_NONE = bytes(16)


class _Uuid:
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)

    @classmethod
    def repr(cls, value: bytes) -> str:
        return value.hex()


_text = CompactString("utf-8")
_TOPIC = (("topic_id", _Uuid), ("name", _text), ("tags", TaggedFields))


class _Answer(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", _text),
                ("port", Int32),
                ("rack", _text),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", _text),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _text),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("operations", Int32),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(*_TOPIC)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_operations", Boolean),
        ("include_topic_operations", Boolean),
        ("tags", TaggedFields),
    )


_Version: TypeAlias = _Question


class _Metadata(Request[_Version]):  # type: ignore[misc]
    API_KEY = 3
    _CLASSES = (_Question,)

    def __init__(self, topics: Sequence[str], operations: bool = False) -> None:
        self._topics = topics
        self._operations = operations

    def build(self, request_struct_class: type[_Question]) -> _Question:
        no_tags: dict[int, bytes] = {}
        asked = [(_NONE, topic, no_tags) for topic in self._topics]
        return request_struct_class(asked, False, False, self._operations, {})


async def ask(client: AIOKafkaClient, topics: Sequence[str]) -> dict[str, str]:
    """The ids of those topics that exist, by name; none where the brokers have no ids.

    Raises:
        KafkaError: no broker answers.
    """
    found = await _send(client, _Metadata(topics))
    return {t["name"]: t["topic_id"].hex() for t in found if not t["error_code"]}


async def operations(client: AIOKafkaClient, topics: Sequence[str]) -> dict[str, int]:
    """What we may do with each topic: a bit for each of Kafka's operations, none where it is
    hidden. Empty where the brokers do not tell.

    Raises:
        KafkaError: no broker answers.
    """
    found = await _send(client, _Metadata(topics, operations=True))
    return {t["name"]: 0 if t["error_code"] else t["operations"] for t in found}


async def _send(client: AIOKafkaClient, request: _Metadata) -> Sequence[dict[str, Any]]:
    """What the brokers say of the topics; nothing where they are too old."""
    try:
        answer: Any = await client.send(client.get_random_node(), request)
    except (IncompatibleBrokerVersion, NotImplementedError):
        return ()
    found: Sequence[dict[str, Any]] = answer.to_object()["topics"]
    return found


async def topic_ids(settings: Settings, topics: Sequence[str]) -> dict[str, str]:
    """As `ask`, with a connection of its own. Raises `Unavailable`."""
    async with admin_client(settings) as admin:
        return await ask(admin._client, topics)


def together(ids: Sequence[str]) -> str:
    """A short name for topics of these ids: eight hexadecimal digits; empty where one has none."""
    if not all(ids):
        return ""
    return hashlib.sha256("".join(ids).encode()).hexdigest()[:8]
