"""Faults of aiokafka's own that would lose or double records, next to our answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from aiokafka import TopicPartition, conn
from aiokafka.admin import client as admin
from aiokafka.consumer import consumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    KafkaConnectionError,
)
from aiokafka.producer import producer
from aiokafka.protocol.commit import OffsetCommitResponse_v2, OffsetFetchResponse_v3
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import OffsetAndMetadata

from streams.kafka import workarounds
from streams.kafka.workarounds import Connection, Coordinator, Fetcher, KafkaClient
from workers.devstack.private import Certificates, certificates

EVENTS = TopicPartition("events", 0)
NOBODY, LOADING, MOVED, REFUSED = 0, 14, 16, 30
COMMITTED = OffsetFetchResponse_v3(0, [("events", [(0, 7, "", 0)])], 0)


def stock_and_ours(
    stock: type[Any], ours: type[Any], fails: type[BaseException], why: str
) -> pytest.MarkDecorator:
    """Runs a spec for both: stock has to fail in the way that is the fault."""
    fault = pytest.mark.xfail(raises=fails, reason=why)
    kinds = [pytest.param(stock, id="stock", marks=fault), pytest.param(ours, id="ours")]
    return pytest.mark.parametrize("kind", kinds)


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
@stock_and_ours(
    GroupCoordinator,
    Coordinator,
    AssertionError,
    "A13: a coordinator that is loading passes for one where nothing is committed",
)
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


class Subscription:
    """What of aiokafka's a coordinator uses here; its listener takes its time to take over."""

    def __init__(self) -> None:
        self.listener = self
        self.subscription = SimpleNamespace(assignment=None)
        self.beating = False
        self.coordinator: Any = None

    def partitions_auto_assigned(self) -> bool:
        return True

    def assign_from_subscribed(self, assigned: Any) -> None:
        pass

    def assigned_partitions(self) -> list[TopicPartition]:
        return [EVENTS]

    async def on_partitions_assigned(self, assigned: Any) -> None:
        assert assigned == {EVENTS}
        self.beating = self.coordinator._heartbeat_task is not None


def member(kind: type[Any], generation: int) -> Any:
    """A coordinator's client that has been given a partition."""
    made, subscription = object.__new__(kind), Subscription()
    made.group_id, made.generation, made.member_id = "group", generation, "member"
    made.coordinator_id = None
    made._subscription, subscription.coordinator = subscription, made
    made._assignors = [RangePartitionAssignor]
    made._heartbeat_task = made._commit_refresh_task = None
    made._start_heartbeat_task = lambda: setattr(made, "_heartbeat_task", "beats")
    made.start_commit_offsets_refresh_task = lambda assignment: None
    return made


@stock_and_ours(
    GroupCoordinator,
    Coordinator,
    AssertionError,
    "A15: no heartbeat while partitions are taken over: one that is slow is out",
)
async def test_a_member_that_takes_partitions_over_stays_one(kind: type[Any]) -> None:
    taking = member(kind, generation=3)
    assignment = ConsumerProtocolMemberAssignment(0, [("events", [0])], b"").encode()
    await taking._on_join_complete(3, "member", "range", assignment)
    assert taking._subscription.beating


@stock_and_ours(
    GroupCoordinator,
    Coordinator,
    pytest.fail.Exception,
    "A16: who was thrown out commits as a stranger, which an empty group accepts",
)
async def test_who_is_no_member_any_more_commits_nothing(
    monkeypatch: pytest.MonkeyPatch, kind: type[Any]
) -> None:
    sent: list[Any] = []

    async def accept(self: Any, request: Any) -> Any:
        del self
        sent.append(request)
        return OffsetCommitResponse_v2([("events", [(0, NOBODY)])])

    monkeypatch.setattr(GroupCoordinator, "_send_req", accept)
    offsets = {EVENTS: OffsetAndMetadata(7, "")}
    await member(kind, generation=3)._do_commit_offsets(None, offsets)
    assert len(sent) == 1
    with pytest.raises(IllegalGenerationError):
        await member(kind, generation=-1)._do_commit_offsets(None, offsets)
    assert len(sent) == 1


@stock_and_ours(
    Fetcher.__bases__[0],
    Fetcher,
    pytest.fail.Exception,
    "A17: a consumer that is stopped after a lost connection cancels the task that stops it",
)
async def test_who_stops_a_consumer_goes_on(kind: type[Any]) -> None:
    made = object.__new__(kind)
    made._fetch_task = asyncio.create_task(asyncio.sleep(60))
    retry = asyncio.create_task(asyncio.sleep(60))
    made._pending_tasks, made._fetch_waiters = {retry}, set()
    await asyncio.sleep(0)
    try:
        await made.close()
    except asyncio.CancelledError:
        pytest.fail("nobody has cancelled this task")
    assert retry.cancelled()


STOCK_CLIENT: type[Any] = KafkaClient.__bases__[0]


@stock_and_ours(
    STOCK_CLIENT,
    KafkaClient,
    AssertionError,
    "A19: who is cancelled while it closes a client goes on",
)
async def test_who_is_cancelled_while_it_closes_a_client_ends(kind: type[Any]) -> None:
    made = object.__new__(kind)
    made._conns, made._sync_task = {}, asyncio.create_task(asyncio.sleep(60))

    async def close_and_go_on() -> None:
        await made.close()
        await asyncio.sleep(60)

    closing = asyncio.create_task(close_and_go_on())
    while not (made._sync_task and made._sync_task.cancelling()):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing}, timeout=0.2)
    assert closing.cancelled()
    await asyncio.sleep(0.01)
    assert made._sync_task is None  # closed all the same


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


@stock_and_ours(
    STOCK_CONNECTION,
    Connection,
    RuntimeError,
    "A14: on uvloop a lost connection ends the task that sends on it",
)
def test_a_lost_connection_is_an_error_that_clients_handle(kind: type[Any]) -> None:
    with (
        pytest.raises(KafkaConnectionError),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(send_on_a_lost_connection(kind))


async def close_to_who_says_no_farewell(kind: type[Any], pair: Certificates) -> bool:
    """Whether a TLS connection ends whose other end neither reads nor hangs up."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    ours, theirs = socket.socketpair()
    broker = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    broker.load_cert_chain(pair.server, pair.server_key)
    trusting = ssl.create_default_context(cafile=str(pair.ca))
    made = kind("127.0.0.1", 9092, security_protocol="SSL", ssl_context=trusting)
    made._closed_fut = loop.create_future()
    protocol = conn.AIOKafkaProtocol(made._closed_fut, reader, loop=loop)
    (transport, _), silent = await asyncio.gather(
        loop.create_connection(
            lambda: protocol, sock=ours, ssl=trusting, server_hostname="localhost"
        ),
        asyncio.to_thread(broker.wrap_socket, theirs, server_side=True),
    )
    made._reader = reader
    made._writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    made._read_task = asyncio.create_task(asyncio.sleep(0))
    with silent:
        done, _ = await asyncio.wait({made.close()}, timeout=3.0)
        transport.abort()
    return bool(done)


@stock_and_ours(
    STOCK_CONNECTION,
    Connection,
    AssertionError,
    "A20: on uvloop who closes a TLS connection waits half a minute for a farewell",
)
def test_a_connection_ends_without_a_farewell(
    kind: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workarounds, "_FAREWELL", 0.05)
    pair = certificates(tmp_path)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(close_to_who_says_no_farewell(kind, pair))


def test_every_client_of_the_process_has_them() -> None:
    workarounds.apply()
    assert consumer.GroupCoordinator is Coordinator
    assert consumer.Fetcher is Fetcher
    assert consumer.AIOKafkaClient is producer.AIOKafkaClient is admin.AIOKafkaClient is KafkaClient
    assert conn.AIOKafkaConnection is Connection
