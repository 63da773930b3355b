"""Workarounds for faults of aiokafka 0.14 that lose or delay records (`docs/faust.md`, A14 - A20).

Each subclass says what the stock class does and what it does instead.
"""

from __future__ import annotations

import asyncio
import sys
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
from aiokafka.record import default_records as record_types

from streams.aio.cancelling import cancel
from streams.errors import ConfigurationError
from streams.kafka.decompressing import DECODERS

records: Any = sys.modules[record_types.DefaultRecordBatch.__module__]
"""Where the class that reads record batches looks its decoders up: compiled, if it can be."""


_FAREWELL = 1.0
"""Seconds that the end of a connection may take; a broker answers a fetch before it, in 0.5 s."""


class Coordinator(GroupCoordinator):  # type: ignore[misc]
    """Is a member of its group from its assignment until the group says otherwise."""

    async def _on_join_complete(self, *args: Any) -> None:
        """Take partitions over, and heartbeat meanwhile.

        Stock starts its heartbeat after the takeover. A member whose takeover took longer than the
        session, because it rebuilt state, was thrown out of the group, and so was the next one.
        """
        self._start_heartbeat_task()
        await super()._on_join_complete(*args)

    async def _do_commit_offsets(self, assignment: Any, offsets: Any) -> None:
        """Commit as a member.

        Stock commits without a generation once the group has thrown it out. A group that has no
        members at that moment accepts this, and its offsets go back.
        """
        if self._subscription.partitions_auto_assigned() and self.generation < 0:
            raise IllegalGenerationError(self.group_id)
        await super()._do_commit_offsets(assignment, offsets)

    async def _send_req(self, request: Any) -> Any:
        """Heed the error of a whole answer about committed offsets.

        Stock reads only the errors of partitions. A coordinator that still loads its log, after a
        restart of the broker, names no partition. Stock took that for "nothing is committed", and
        the group began with the first record again.
        """
        response = await super()._send_req(request)
        if isinstance(request, OffsetFetchRequest) and (code := getattr(response, "error_code", 0)):
            error = for_code(code)
            if error is NotCoordinatorForGroupError:
                self.coordinator_dead()
            raise error(self.group_id)
        return response


class Connection(conn.AIOKafkaConnection):  # type: ignore[misc]
    """Raises a connection error where uvloop finds the connection closed.

    uvloop raises `RuntimeError` for a write after the broker has gone; asyncio's loop does not.
    Stock lets that through, and it ends the task that made the request. Without the task that
    renews the metadata, no client finds a broker again.
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

    def close(self, reason: Any = None, exc: Any = None) -> Any:
        """Close, in a second at most.

        With TLS, uvloop now and then misses the broker's farewell, and waits for it for half a
        minute; stock waits for uvloop. Nothing is under way then that anybody waits for.
        """
        writer = self._writer
        closed = super().close(reason, exc)
        if writer is not None and self._ssl_context is not None and not closed.done():
            ending = closed.get_loop().call_later(_FAREWELL, writer.transport.abort)
            closed.add_done_callback(lambda _: ending.cancel())
        return closed

    def _broken(self, why: RuntimeError) -> KafkaConnectionError:
        self.close(reason=conn.CloseReason.CONNECTION_BROKEN)
        return KafkaConnectionError(f"connection to {self.host}:{self.port} is broken: {why}")


class KafkaClient(client.AIOKafkaClient):  # type: ignore[misc]
    """Finishes closing, and lets a cancellation of its caller through.

    Stock cancels its own task, awaits it, and mistakes any cancellation for that one: a caller
    that was cancelled at that moment continued, and a rebalance that awaited its end hung.
    """

    async def close(self) -> None:
        await asyncio.shield(super().close())


class Fetcher(fetcher.Fetcher):  # type: ignore[misc]
    """Ends without raising `CancelledError` in its caller."""

    async def close(self) -> None:
        """Cancel the fetches under way.

        Stock awaits each fetch that it cancels. A fetch that waits to retry after a lost connection
        raises `CancelledError`, and so did `stop()` of the consumer: its caller ended silently.
        """
        await cancel(self._fetch_task)  # no earlier: it begins fetches
        await cancel(*self._pending_tasks)
        self._pending_tasks.clear()
        await super().close()


_REPLACED: tuple[tuple[Any, str, type], ...] = (
    (conn, "AIOKafkaConnection", Connection),
    (consumer, "AIOKafkaClient", KafkaClient),
    (producer, "AIOKafkaClient", KafkaClient),
    (admin, "AIOKafkaClient", KafkaClient),
    (consumer, "GroupCoordinator", Coordinator),
    (consumer, "Fetcher", Fetcher),
)
"""Module, name in it, and what takes its place."""


def apply() -> None:
    """Replace the faulty classes, for every client of this process; a second call changes nothing.

    Programs call it when they start. A mere import leaves a user's own clients alone.

    Raises:
        ConfigurationError: this aiokafka lacks a name that is replaced, or has another class there.
    """
    for module, name, ours in _REPLACED:
        stock = ours.__mro__[1]
        if getattr(module, name, None) not in (stock, ours):
            raise _other_version(f"{module.__name__}.{name}")
        setattr(module, name, ours)
    for name, decode in DECODERS.items():
        for module in (records, record_types):
            if not hasattr(module, name):
                raise _other_version(f"{module.__name__}.{name}")
            setattr(module, name, decode)
    if not hasattr(sender, "BACKOFF_OVERRIDE"):
        raise _other_version(f"{sender.__name__}.BACKOFF_OVERRIDE")
    # stock waits 20 ms while the last transaction's markers are written, which takes about 2 ms
    sender.BACKOFF_OVERRIDE = 0.002


def _other_version(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"aiokafka {aiokafka.__version__} has no {name} to work around - install aiokafka 0.14"
    )
