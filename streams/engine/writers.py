"""Writes outputs, then commits source offsets, of one input partition; or both in one transaction.

A transactional writer keeps what it wrote since the last commit. When anything fails, it drops its
producer, starts a new one (which commits or aborts the old transaction), asks the broker which
offsets are committed, and writes everything again if they are the old ones. So a commit whose
answer never arrived is neither lost nor doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import aiokafka
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from streams.engine.committed import CommittedOffsets
from streams.engine.outbox import Outbox
from streams.engine.producers import (
    TRANSIENT,
    Backoff,
    ReplaceableProducer,
    patiently,
    require_transient,
)
from streams.errors import DriftloopError
from streams.ports.batches import Outputs, TopicPartition

log = structlog.get_logger(__name__)

T = TypeVar("T")
Commit = Callable[[Mapping[TopicPartition, int]], Awaitable[None]]
InGroup = Callable[[], Awaitable[bool]]

_STALE = (
    CommitFailedError,
    IllegalGenerationError,
    UnknownMemberIdError,
    RebalanceInProgressError,
)
_SEND_RECORDS = 1024
"""With at least this many unsent outputs, the writer sends them before the commit."""


class PartitionLost(DriftloopError):
    """The group has taken the partition away, or is about to; the worker joins again by itself."""


class ForeignCommit(DriftloopError):
    """Another process commits for a partition that this worker has."""


class Writer(Protocol):
    """Writes outputs of one partition and commits the source offsets that they stand for."""

    async def open(self) -> None:
        """Take the partition over; no other writer of it can commit from now on."""
        ...

    async def write(self, outputs: Outputs, positions: Mapping[TopicPartition, int]) -> None:
        """Add outputs, and the next source offsets that they cover, to what is being written."""
        ...

    async def commit(self) -> None:
        """Return once outputs and offsets are durable. Raises `PartitionLost`, `ForeignCommit`."""
        ...

    async def close(self) -> None:
        """Drop what is uncommitted and release the producer."""
        ...


class TransactionalWriter:
    """exactly_once: outputs and source offsets of whole batches in one Kafka transaction.

    One transactional id per input partition: taking it over fences whoever had it, since aiokafka
    commits offsets in transactions without the group's generation. A worker that lost the
    partition without noticing (it was stopped, or cut off) finds out from the group before it
    recovers, so that it does not fence its successor.

    Nobody sees outputs before the commit, so small ones are sent with it, as few record batches.
    But the first ones, and their offsets, are sent at once: a commit has five requests to make in
    turn, and those that name its topics and its group are then behind it.
    """

    def __init__(
        self,
        producer: ReplaceableProducer,
        partition: int,
        group: str,
        sources: set[TopicPartition],
        offsets: CommittedOffsets,
        in_group: InGroup,
        timeout: float,
    ) -> None:
        self._producer = producer
        self._partition = partition
        self._group = group
        self._sources = sources
        self._offsets = offsets
        self._in_group = in_group
        self._timeout = timeout
        self._committed: dict[TopicPartition, int] = {}
        """As far as this writer knows."""
        self._outbox = Outbox(partition)
        self._offsets_sent: Mapping[TopicPartition, int] = {}
        """In the open transaction."""
        self._in_transaction = False
        self._broken = False
        self._backoff = Backoff()

    async def open(self) -> None:
        await self._producer.get()
        self._committed = await self._find_committed()

    async def write(self, outputs: Outputs, positions: Mapping[TopicPartition, int]) -> None:
        self._outbox.add(outputs, positions)
        if self._broken or (self._in_transaction and self._outbox.waiting < _SEND_RECORDS):
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._send()
        except TRANSIENT as error:
            require_transient(error)
            self._broken = True  # commit() starts over with a new producer
            log.warning("Kafka takes no write", partition=self._partition, error=repr(error))

    async def commit(self) -> None:
        while self._outbox.positions:
            if self._broken:
                await self._recover()
                continue
            try:
                async with asyncio.timeout(self._timeout):
                    await self._commit()
            except TRANSIENT as error:
                require_transient(error)
                self._broken = True
                log.warning("Kafka takes no commit", partition=self._partition, error=repr(error))
                await self._backoff.failed()
            else:
                self._backoff.succeeded()
                self._committed = self._intended()
                self._offsets.acknowledge(self._committed)
                self._done()

    async def close(self) -> None:
        self._done()
        await self._producer.close()

    async def _send(self) -> None:
        producer = await self._producer.get()
        first = not self._in_transaction
        if first:
            await producer.begin_transaction()
            self._in_transaction = True
        await self._outbox.send(producer)
        if first:
            self._send_offsets(producer)

    def _send_offsets(self, producer: AIOKafkaProducer) -> None:
        self._offsets_sent = self._outbox.positions
        offsets = {aiokafka.TopicPartition(*tp): at for tp, at in self._offsets_sent.items()}
        self._outbox.expect(producer.send_offsets_to_transaction(offsets, self._group))

    async def _commit(self) -> None:
        await self._send()
        producer = await self._producer.get()
        if self._offsets_sent != self._outbox.positions:
            self._send_offsets(producer)
        await self._outbox.acknowledged()
        await producer.commit_transaction()

    async def _recover(self) -> None:
        """Start over with a new producer: the transaction was committed whole, or not at all.

        Raises:
            PartitionLost: the group does not count the worker in any more.
            ForeignCommit: it does, and neither is the case.
        """
        if not await self._asked(self._in_group):
            raise PartitionLost(f"partition {self._partition} was given to another worker")
        self._forget_transaction()
        await self._producer.close()
        await self._producer.get()
        found = await self._find_committed()
        self._broken = False
        if found == self._intended():
            self._committed = found
            self._done()
        elif found != self._committed:
            at = {tp.topic: offset for tp, offset in found.items()}
            raise ForeignCommit(
                f"another process has committed {at} for partition {self._partition} - "
                f"does one that is not of group {self._group} use its transactional ids?"
            )

    async def _find_committed(self) -> dict[TopicPartition, int]:
        found = await self._asked(lambda: self._offsets.find(self._sources))
        return {tp: at for tp, at in found.items() if at is not None}

    async def _asked(self, question: Callable[[], Awaitable[T]]) -> T:
        """The broker's answer, once it is there."""

        async def ask() -> T:
            async with asyncio.timeout(self._timeout):
                return await question()

        return await patiently()(ask)

    def _intended(self) -> dict[TopicPartition, int]:
        """What is committed once what was written is."""
        return {**self._committed, **self._outbox.positions}

    def _done(self) -> None:
        self._forget_transaction()
        self._outbox.clear()

    def _forget_transaction(self) -> None:
        self._outbox.unsend()
        self._offsets_sent = {}
        self._in_transaction = False


class IdempotentWriter:
    """at_least_once: offsets are committed after the outputs are acknowledged.

    A worker's writers share a producer: what its lanes write at the same moment is one request.
    The commit waits for the acknowledgement. When anything fails, all that is uncommitted is
    written again, in its order, to the producer that takes the place of the failed one.
    """

    def __init__(
        self, producer: ReplaceableProducer, partition: int, commit: Commit, timeout: float
    ) -> None:
        self._producer = producer
        self._partition = partition
        self._commit = commit
        self._timeout = timeout
        self._used: AIOKafkaProducer | None = None
        """The producer that has what was sent."""
        self._outbox = Outbox(partition)
        self._backoff = Backoff()

    async def open(self) -> None:
        await self._producer.get()

    async def write(self, outputs: Outputs, positions: Mapping[TopicPartition, int]) -> None:
        self._outbox.add(outputs, positions)
        await self._attempt(self._send)

    async def commit(self) -> None:
        if not self._outbox.positions:
            return
        while not await self._attempt(self._flush):
            pass
        async for attempt in patiently():
            with attempt:
                try:
                    await self._commit(self._outbox.positions)
                except _STALE as error:
                    raise PartitionLost(f"partition {self._partition} was reassigned") from error
        self._outbox.clear()

    async def close(self) -> None:
        """Drop what is uncommitted; the application closes the shared producer."""
        self._outbox.clear()

    async def _attempt(self, action: Callable[[], Awaitable[None]]) -> bool:
        """Whether it succeeded; if not, a new producer has taken over, once the broker was back."""
        try:
            async with asyncio.timeout(self._timeout):
                await action()
        except TRANSIENT as error:
            require_transient(error)
            log.warning("Kafka takes no write", partition=self._partition, error=repr(error))
            await self._producer.replace(self._used)
            await self._backoff.failed()
            return False
        self._backoff.succeeded()
        return True

    async def _send(self) -> None:
        producer = await self._producer.get()
        if producer is not self._used:  # another writer may have replaced it, too
            self._used = producer
            self._outbox.unsend()
        await self._outbox.send(producer)

    async def _flush(self) -> None:
        await self._send()
        await self._outbox.acknowledged()
