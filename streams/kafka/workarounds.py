"""Workarounds for faults of aiokafka 0.14 that lose or delay records (`docs/faust.md`, A14 - A19).

Each subclass says what the stock class does and what it does instead.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiokafka
from aiokafka import client, conn
from aiokafka.admin import client as admin
from aiokafka.consumer import consumer, fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaConnectionError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.producer import producer, sender
from aiokafka.protocol.commit import OffsetFetchRequest

from streams.aio.cancelling import cancel
from streams.errors import ConfigurationError


class Coordinator(GroupCoordinator):  # type: ignore[misc]
    """A member of its group from its assignment on, and not for longer than the group says."""

    async def _on_join_complete(self, *args: Any) -> None:
        """Take partitions over, and heartbeat meanwhile.

        Stock begins to when that is done: one that takes longer than the session, since its state
        has to be rebuilt, was thrown out of the group, and so was whoever came next.
        """
        self._start_heartbeat_task()
        await super()._on_join_complete(*args)

    async def _do_commit_offsets(self, assignment: Any, offsets: Any) -> None:
        """Commit as a member.

        Stock commits as a stranger to the group once the group has thrown it out. One that has no
        members at the moment takes that, and its offsets go back to what this one has in hand.
        """
        if self._subscription.partitions_auto_assigned() and self.generation < 0:
            raise IllegalGenerationError(self.group_id)
        await super()._do_commit_offsets(assignment, offsets)

    async def _send_req(self, request: Any) -> Any:
        """Heed the error of a whole answer about committed offsets.

        Stock reads only those of partitions, and a coordinator that still loads its log, after a
        restart of the broker, names no partition: that passed for "nothing is committed", and the
        group began with the first record again.
        """
        response = await super()._send_req(request)
        if isinstance(request, OffsetFetchRequest) and (code := getattr(response, "error_code", 0)):
            error = for_code(code)
            if error is NotCoordinatorForGroupError:
                self.coordinator_dead()
            raise error(self.group_id)
        return response


class Connection(conn.AIOKafkaConnection):  # type: ignore[misc]
    """Fails as a broken connection does where uvloop finds it closed.

    uvloop raises `RuntimeError` for a write after the broker has gone, where asyncio's loop says
    nothing. Stock lets that through, and whatever task made the request ends by it: without the one
    that renews the metadata, no client finds a broker again.
    """

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            return super().send(request, expect_response)
        except RuntimeError as closed:
            raise self._broken(closed) from closed

    def _send_sasl_token(self, payload: Any, expect_response: bool = True) -> Any:
        try:
            return super()._send_sasl_token(payload, expect_response)
        except RuntimeError as closed:
            raise self._broken(closed) from closed

    def _broken(self, why: RuntimeError) -> KafkaConnectionError:
        self.close(reason=conn.CloseReason.CONNECTION_BROKEN)
        return KafkaConnectionError(f"connection to {self.host}:{self.port} is broken: {why}")


class Client(client.AIOKafkaClient):  # type: ignore[misc]
    """Closes to its end, and leaves a cancellation of who closes it alone.

    Stock cancels its own task, awaits it, and mistakes any cancellation for that one: a caller
    that was cancelled at that moment continued, and a rebalance that awaited its end hung.
    """

    async def close(self) -> None:
        await asyncio.shield(super().close())


class Fetcher(fetcher.Fetcher):  # type: ignore[misc]
    """Ends without looking like a cancellation of who ends it."""

    async def close(self) -> None:
        """Cancel the fetches under way.

        Stock awaits each that it cancels, and one that a lost connection has made wait for its
        retry raises that. So `stop()` of a consumer raised `CancelledError`: the task that made it
        ended, silently.
        """
        await cancel(self._fetch_task)  # no earlier: it begins fetches
        await cancel(*self._pending_tasks)
        self._pending_tasks.clear()
        await super().close()


_REPLACED: tuple[tuple[Any, str, type], ...] = (
    (conn, "AIOKafkaConnection", Connection),
    (consumer, "AIOKafkaClient", Client),
    (producer, "AIOKafkaClient", Client),
    (admin, "AIOKafkaClient", Client),
    (consumer, "GroupCoordinator", Coordinator),
    (consumer, "Fetcher", Fetcher),
)
"""Module, name in it, and what takes its place."""


def apply() -> None:
    """Replace what is faulty, for every client of this process; again changes nothing.

    Programs call it when they start: a user's own clients are left alone by a mere import.

    Raises:
        ConfigurationError: this aiokafka lacks a name that is replaced, or has another class there.
    """
    for module, name, ours in _REPLACED:
        stock = ours.__mro__[1]
        if getattr(module, name, None) not in (stock, ours):
            raise _other_version(f"{module.__name__}.{name}")
        setattr(module, name, ours)
    if not hasattr(sender, "BACKOFF_OVERRIDE"):
        raise _other_version(f"{sender.__name__}.BACKOFF_OVERRIDE")
    # it waits 20 ms while the last transaction's markers are being written: they take about 2
    sender.BACKOFF_OVERRIDE = 0.002


def _other_version(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"aiokafka {aiokafka.__version__} has no {name} to work around - install aiokafka 0.14"
    )
