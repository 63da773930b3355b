"""Writing outputs and source offsets of one input partition: in one transaction, or in that order.

A writer keeps what it wrote since the last commit. When anything fails it throws its producer
away, starts a new one (which ends the old transaction one way or the other), asks the broker which
offsets are committed, and writes it all again if they are the old ones. So an outcome that never
arrived (a timed-out commit) is neither lost nor doubled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, Protocol, TypeVar

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalOperation,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.types import TP
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from streams.errors import DriftloopError
from streams.transport.batches import Outputs, Record
from streams.transport.clients import stop
from streams.transport.offsets import CommittedOffsets

log = structlog.get_logger(__name__)

T = TypeVar("T")

Commit = Callable[[Mapping[TP, int]], Awaitable[None]]
InGroup = Callable[[], Awaitable[bool]]

_STALE = (
    CommitFailedError,
    IllegalGenerationError,
    UnknownMemberIdError,
    RebalanceInProgressError,
)
# IllegalOperation: what a producer answers once a request before has failed or was fenced
_TRANSIENT = (KafkaError, IllegalOperation, TimeoutError, OSError)


class PartitionLost(DriftloopError):
    """The group has taken the partition away, or is about to: nothing more may be written.

    The worker joins again by itself.
    """


class ForeignCommit(DriftloopError):
    """Another process commits for a partition that the group has given to this worker."""


class Writer(Protocol):
    """Writes outputs of one partition and commits the source offsets that they stand for."""

    @property
    def begun(self) -> float | None:
        """Monotonic time of the first uncommitted write; None where all is committed."""
        ...

    async def open(self) -> None:
        """Take the partition over; no other writer of it can commit from now on."""
        ...

    async def write(self, outputs: Outputs, positions: Mapping[TP, int]) -> None:
        """Add outputs, and the next source offsets that they cover, to what is being written."""
        ...

    async def commit(self) -> None:
        """Return once outputs and offsets are durable. Raises `PartitionLost`, `ForeignCommit`."""
        ...

    async def close(self) -> None:
        """Drop what is uncommitted and release the producer."""
        ...


class _BatchWriter:
    """What both writers share: a producer that can be replaced, and what it has yet to commit."""

    def __init__(self, new_producer: Callable[[], AIOKafkaProducer], partition: int,
                 timeout: float) -> None:  # fmt: skip
        self._new_producer = new_producer
        self._partition = partition
        self._timeout = timeout
        self._producer: AIOKafkaProducer | None = None
        self._pending: list[tuple[Outputs, Mapping[TP, int]]] = []
        self._acknowledgements: list[Any] = []
        self.begun: float | None = None

    async def _renew(self) -> None:
        """Replace the producer; retries until the broker is there."""
        await self._discard()
        async for attempt in _patiently():
            with attempt:
                self._producer = self._new_producer()
                try:
                    async with asyncio.timeout(self._timeout):
                        await self._producer.start()
                except BaseException:
                    await self._discard()
                    raise

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        for acknowledgement in self._acknowledgements:
            acknowledgement.cancel()
        self._acknowledgements.clear()
        if producer is not None:
            await stop(producer)

    async def _send(self, outputs: Outputs) -> None:
        assert self._producer is not None
        for topic, records in outputs.items():
            start = 0
            while start < len(records):
                batch = self._producer.create_batch()
                start = _fill(batch, records, start)
                await self._send_batch(batch, topic)

    async def _send_batch(self, batch: BatchBuilder, topic: str) -> None:
        assert self._producer is not None
        batch.close()
        sent = await self._producer.send_batch(batch, topic, partition=self._partition)
        self._acknowledgements.append(sent)

    async def _acknowledged(self) -> None:
        sent, self._acknowledgements = self._acknowledgements, []
        await asyncio.gather(*sent)

    def _positions(self) -> dict[TP, int]:
        positions: dict[TP, int] = {}
        for _, covered in self._pending:
            positions.update(covered)
        return positions

    def _done(self) -> None:
        self._pending.clear()
        self.begun = None

    async def close(self) -> None:
        self._done()
        await self._discard()


class TransactionalWriter(_BatchWriter):
    """exactly_once: outputs and source offsets of whole batches in one Kafka transaction.

    One transactional id per input partition: taking it over fences whoever had it, since aiokafka
    commits offsets in transactions without the group's generation. A worker that lost the
    partition without noticing (it was stopped, or cut off) finds out from the group before it
    recovers, so that it does not fence its successor.
    """

    def __init__(self, new_producer: Callable[[], AIOKafkaProducer], partition: int, group: str,
                 sources: set[TP], offsets: CommittedOffsets, in_group: InGroup,
                 timeout: float) -> None:  # fmt: skip
        super().__init__(new_producer, partition, timeout)
        self._group = group
        self._sources = sources
        self._offsets = offsets
        self._in_group = in_group
        self._committed: dict[TP, int] = {}
        """As far as this writer knows."""
        self._broken = False

    async def open(self) -> None:
        await self._renew()
        self._committed = await self._find_committed()

    async def write(self, outputs: Outputs, positions: Mapping[TP, int]) -> None:
        self._pending.append((outputs, positions))
        if self.begun is None:
            self.begun = time.monotonic()
        if self._broken:
            return
        try:
            await self._write(outputs, first=len(self._pending) == 1)
        except _TRANSIENT as error:
            self._broken = True  # commit() starts over with a new producer
            log.warning("write failed", partition=self._partition, error=repr(error))

    async def _write(self, outputs: Outputs, first: bool) -> None:
        assert self._producer is not None
        async with asyncio.timeout(self._timeout):
            if first:
                await self._producer.begin_transaction()
            await self._send(outputs)

    async def commit(self) -> None:
        while self._pending:
            if self._broken:
                await self._recover()
                continue
            try:
                await self._commit()
            except _TRANSIENT as error:
                self._broken = True
                log.warning("commit failed", partition=self._partition, error=repr(error))
            else:
                self._committed.update(self._positions())
                self._offsets.acknowledge(self._committed)
                self._done()

    async def _commit(self) -> None:
        assert self._producer is not None
        async with asyncio.timeout(self._timeout):
            await self._acknowledged()
            offsets = {TopicPartition(*tp): at for tp, at in self._positions().items()}
            await self._producer.send_offsets_to_transaction(offsets, self._group)
            await self._producer.commit_transaction()

    async def _recover(self) -> None:
        """Start over with a new producer: the transaction was committed whole, or not at all.

        Raises:
            PartitionLost: the group does not count the worker in any more.
            ForeignCommit: it does, and neither is the case.
        """
        if not await self._asked(self._in_group):
            raise PartitionLost(f"partition {self._partition} was given to another worker")
        await self._renew()
        found = await self._find_committed()
        self._broken = False
        if found == {**self._committed, **self._positions()}:
            self._committed = found
            self._done()
        elif found == self._committed:
            again, self._pending = self._pending, []
            for outputs, positions in again:
                await self.write(outputs, positions)
        else:
            at = {tp.topic: offset for tp, offset in found.items()}
            raise ForeignCommit(
                f"another process has committed {at} for partition {self._partition} - "
                f"does one that is not of group {self._group} use its transactional ids?"
            )

    async def _find_committed(self) -> dict[TP, int]:
        found = await self._asked(lambda: self._offsets.find(self._sources))
        return {tp: at for tp, at in found.items() if at is not None}

    async def _asked(self, question: Callable[[], Awaitable[T]]) -> T:
        """The broker's answer, once it is there."""

        async def ask() -> T:
            async with asyncio.timeout(self._timeout):
                return await question()

        return await _patiently()(ask)


class IdempotentWriter(_BatchWriter):
    """at_least_once: offsets are committed after the outputs are acknowledged."""

    def __init__(self, new_producer: Callable[[], AIOKafkaProducer], partition: int,
                 commit: Commit, timeout: float) -> None:  # fmt: skip
        super().__init__(new_producer, partition, timeout)
        self._commit_positions = commit

    async def open(self) -> None:
        await self._renew()

    async def write(self, outputs: Outputs, positions: Mapping[TP, int]) -> None:
        if self.begun is None:
            self.begun = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(self._timeout):
                    await self._send(outputs)
                    await self._acknowledged()
                break
            except _TRANSIENT as error:
                log.warning("write failed", partition=self._partition, error=repr(error))
                await self._renew()
        self._pending.append(({}, positions))

    async def commit(self) -> None:
        if not self._pending:
            return
        async for attempt in _patiently():
            with attempt:
                try:
                    await self._commit_positions(self._positions())
                except _STALE as error:
                    raise PartitionLost(f"partition {self._partition} was reassigned") from error
        self._done()


def _fill(batch: BatchBuilder, records: list[Record], start: int) -> int:
    """Append records from `start` on until the batch is full; returns the first that it left.

    `BatchBuilder.append` does the same at three times the cost per record.
    """
    append, offset = batch._builder.append, 0
    for key, value, headers in islice(records, start, None):
        if append(offset, None, key, value, headers) is None:
            break
        offset += 1
    batch._relative_offset = offset
    return start + offset


def _patiently() -> AsyncRetrying:
    """Attempts for as long as Kafka is away."""
    return AsyncRetrying(
        retry=retry_if_exception_type(_TRANSIENT),
        wait=wait_exponential_jitter(multiplier=0.1, max=1, jitter=0.1),
        before_sleep=_log_retry,
        reraise=True,
    )


def _log_retry(state: Any) -> None:
    log.warning("kafka is away, retrying", attempt=state.attempt_number,
                error=repr(state.outcome.exception()))  # fmt: skip
