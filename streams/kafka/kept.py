"""How much topics keep on the brokers' disks.

By `DescribeLogDirs` in version 1 of Kafka's protocol, which aiokafka does not have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

from streams.kafka.connection import admin_client, unavailable
from streams.settings import Settings

_text = String("utf-8")


class _Answer(Response):  # type: ignore[misc]
    API_KEY = 35
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "directories",
            Array(
                ("error_code", Int16),
                ("directory", _text),
                (
                    "topics",
                    Array(
                        ("name", _text),
                        (
                            "partitions",
                            Array(
                                ("partition", Int32),
                                ("size", Int64),
                                ("offset_lag", Int64),
                                ("is_future", Boolean),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    API_KEY = 35
    API_VERSION = 1
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(("topics", Array(("topic", _text), ("partitions", Array(Int32)))))


_Version: TypeAlias = _Question


class _DescribeLogDirs(Request[_Version]):  # type: ignore[misc]
    API_KEY = 35
    _CLASSES = (_Question,)

    def build(self, request_struct_class: type[_Question]) -> _Question:
        return request_struct_class(None)  # of all topics: one that is missing is not made


async def kept_bytes(settings: Settings, topics: Sequence[str]) -> int | None:
    """Bytes that all replicas of topics take on disk now.

    None where the brokers do not say: they are too old, or do not allow us DESCRIBE on the cluster.

    Raises:
        Unavailable: a broker does not answer.
    """
    async with admin_client(settings) as admin:
        nodes = [broker.nodeId for broker in admin._client.cluster.brokers()]
        with unavailable(settings):
            try:
                answers: list[Any] = await asyncio.gather(
                    *(admin._send_request_to_node(node, _DescribeLogDirs()) for node in nodes)
                )
            except (IncompatibleBrokerVersion, NotImplementedError):
                return None
    told = [answer.to_object()["directories"] for answer in answers]
    if not all(told):  # whom it is not allowed is shown no directory
        return None
    return sum(
        int(partition["size"])
        for directories in told
        for one in directories
        for topic in one["topics"]
        if topic["name"] in topics
        for partition in topic["partitions"]
    )
