"""Faults of aiokafka's own that would lose or double records, next to our answer."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop
from aiokafka import TopicPartition, conn
from aiokafka.consumer import consumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupAuthorizationFailedError, KafkaConnectionError
from aiokafka.protocol.commit import OffsetFetchResponse_v3
from aiokafka.protocol.metadata import MetadataRequest

from streams.transport import clients
from streams.transport.mends import Connection, Coordinator

EVENTS = TopicPartition("events", 0)
NOBODY, LOADING, MOVED, REFUSED = 0, 14, 16, 30
COMMITTED = OffsetFetchResponse_v3(0, [("events", [(0, 7, "", 0)])], 0)


def failed(code: int) -> Any:
    """What a broker answers when it cannot say what a group has committed: no partition at all."""
    return OffsetFetchResponse_v3(0, [], code)


def coordinator(monkeypatch: pytest.MonkeyPatch, kind: type[Any], *answers: Any) -> Any:
    """One whose broker gives these answers."""
    made, waiting = object.__new__(kind), list(answers)
    made.group_id, made._retry_backoff_ms, made.looked_up = "group", 1, 0

    async def send(self: Any, request: Any) -> Any:
        del self, request
        return waiting.pop(0)

    async def known() -> None:
        made.looked_up += 1

    monkeypatch.setattr(GroupCoordinator, "_send_req", send)
    made.ensure_coordinator_known = known
    made.coordinator_id = None
    return made


@pytest.mark.parametrize("code", [LOADING, MOVED])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(GroupCoordinator, id="stock", marks=pytest.mark.xfail(
            reason="A13: a coordinator that is loading passes for one where nothing is committed")),
        pytest.param(Coordinator, id="ours"),
    ],
)  # fmt: skip
async def test_what_is_committed_is_asked_again_while_the_coordinator_cannot_say(
    monkeypatch: pytest.MonkeyPatch, kind: type[Any], code: int
) -> None:
    asked = coordinator(monkeypatch, kind, failed(code), COMMITTED)
    found = await asked.fetch_committed_offsets([EVENTS])
    assert {tp: meta.offset for tp, meta in found.items()} == {EVENTS: 7}
    assert asked.looked_up == 2


async def test_a_group_that_may_not_be_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = coordinator(monkeypatch, Coordinator, failed(REFUSED))
    with pytest.raises(GroupAuthorizationFailedError):
        await asked.fetch_committed_offsets([EVENTS])


async def test_a_group_that_has_committed_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = OffsetFetchResponse_v3(0, [("events", [(0, -1, "", 0)])], NOBODY)
    asked = coordinator(monkeypatch, Coordinator, nothing)
    assert await asked.fetch_committed_offsets([EVENTS]) == {}


STOCK_CONNECTION: type[Any] = Connection.__bases__[0]  # ours has taken its name by now


async def send_on_a_lost_connection(kind: type[Any]) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        _, writer = await asyncio.open_connection(sock=ours)
        made = kind("127.0.0.1", 9092)
        made._writer = writer
        writer.transport.abort()
        await asyncio.sleep(0)  # from here on uvloop's transport is closed
        try:
            made.send(MetadataRequest())
        finally:
            made._writer = None


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(STOCK_CONNECTION, id="stock", marks=pytest.mark.xfail(
            raises=RuntimeError,
            reason="A14: on uvloop a lost connection ends the task that sends on it")),
        pytest.param(Connection, id="ours"),
    ],
)  # fmt: skip
def test_a_lost_connection_is_an_error_that_clients_handle(kind: type[Any]) -> None:
    with (
        pytest.raises(KafkaConnectionError),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(send_on_a_lost_connection(kind))


def test_every_client_of_the_process_has_them() -> None:
    assert clients is not None  # the module that mends
    assert consumer.GroupCoordinator is Coordinator
    assert conn.AIOKafkaConnection is Connection
