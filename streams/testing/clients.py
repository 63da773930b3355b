"""Stand-ins for aiokafka's clients, against a broker in memory.

They behave as aiokafka 0.14 does wherever Faust or we depend on it: a fetch that is asked for no
partitions answers for all that are assigned, `seek_to_committed` leaves a partition without a
committed offset where it is, a new assignment begins at the committed offset.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import aiokafka
from aiokafka import ConsumerRecord
from aiokafka.errors import IllegalStateError, KafkaError, OutOfOrderSequenceNumber, ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import OffsetAndMetadata

from streams.ports.batches import TopicPartition
from streams.testing.broker_state import BrokerState


class MemoryConsumer:
    """The consumer client, in the thread that Faust keeps; its own fetcher and coordinator."""

    def __init__(self, broker: BrokerState, options: Mapping[str, Any]) -> None:
        self._broker = broker
        self._max_poll_records = options["max_poll_records"]
        self._closed = False
        self._owned: set[aiokafka.TopicPartition] = set()
        self._listener: Any = None
        self._rebalancing: asyncio.Task[Any] | None = None
        self.position_of: dict[aiokafka.TopicPartition, int] = {}
        self.generation = 0
        self._fetching = False
        self._patient = False
        self._fetcher = self._coordinator = self._subscriptions = self._client = self

    async def start(self) -> None:
        """Connect."""
        self.loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """Disconnect, once a rebalance has ended."""
        self._closed = True
        if self._rebalancing is not None:  # aiokafka waits for its coordinator
            await asyncio.wait([self._rebalancing])

    async def close(self) -> None:
        """Stop fetching."""
        self._closed = True

    def subscribe(self, topics: set[str], listener: Any) -> None:
        """Join the group; `listener` hears of rebalances."""
        del topics
        self._listener = listener

    @property
    def subscribed(self) -> bool:
        """Whether it has joined the group."""
        return self._listener is not None

    async def rebalance(
        self, assigned: set[aiokafka.TopicPartition], between: Callable[[], None] | None
    ) -> None:
        """Revoke what it owns and assign `assigned`, as the group would."""
        self._rebalancing = asyncio.current_task()
        self._patient = between is not None
        while self._patient and not self._fetching:  # noqa: ASYNC110 - a turn of the loop
            await asyncio.sleep(0)
        await self._listener.on_partitions_revoked(self._owned)
        self.generation += 1
        self._owned = assigned
        self.position_of = {
            tp: self._broker.committed.get(TopicPartition(*tp), 0) for tp in assigned
        }
        if between is not None:
            between()
            await asyncio.sleep(0.05)
            self._patient = False
        await self._listener.on_partitions_assigned(assigned)
        self._rebalancing = None

    async def _do_heartbeat(self) -> bool:
        return bool(self._owned)

    def assignment(self) -> frozenset[aiokafka.TopicPartition]:
        """The partitions that it owns."""
        return frozenset(self._owned)

    def fetch_context(self) -> Any:
        """Nothing has to be held while it fetches."""
        return contextlib.nullcontext()

    async def fetched_records(
        self, partitions: set[TopicPartition], timeout: float, max_records: int
    ) -> dict[aiokafka.TopicPartition, list[ConsumerRecord]]:
        """Records of these partitions from their positions on; waits for some."""
        deadline = self.loop.time() + min(timeout, 0.1)
        self._fetching = True
        try:
            while (self._patient or self.loop.time() < deadline) and not self._closed:
                # aiokafka looks at the set anew each time, and takes an empty one for all
                wanted = [
                    tp for tp in self._owned if not partitions or TopicPartition(*tp) in partitions
                ]
                if found := {
                    tp: records for tp in wanted if (records := self._take(tp, max_records))
                }:
                    return found
                await asyncio.sleep(0.002)
            return {}
        finally:
            self._fetching = False

    def _take(self, tp: aiokafka.TopicPartition, limit: int) -> list[ConsumerRecord]:
        log = self._broker.log.get(TopicPartition(*tp), [])
        found = [record for record in log if record.offset >= self.position_of[tp]][:limit]
        if found:
            self.position_of[tp] = found[-1].offset + 1
        return found

    async def commit(self, offsets: Mapping[aiokafka.TopicPartition, Any]) -> None:
        """Commit offsets of partitions that it owns."""
        if missing := set(offsets) - self._owned:
            raise IllegalStateError(f"{missing} are not assigned")
        await self._broker.commit({TopicPartition(*tp): at.offset for tp, at in offsets.items()})

    async def fetch_committed_offsets(
        self, partitions: list[aiokafka.TopicPartition]
    ) -> dict[aiokafka.TopicPartition, OffsetAndMetadata]:
        """What the group has committed; partitions without are left out."""
        found = self._broker.committed
        return {tp: OffsetAndMetadata(found[tp], "") for tp in partitions if tp in found}

    async def seek_to_committed(self) -> dict[aiokafka.TopicPartition, int | None]:
        """Seek to what is committed, and only where something is."""
        await self._broker.fault("seek")
        found = {tp: self._broker.committed.get(TopicPartition(*tp)) for tp in self._owned}
        for tp, offset in found.items():
            if offset:
                self.position_of[tp] = offset
        return found

    async def seek_to_beginning(self, *partitions: aiokafka.TopicPartition) -> bool:
        """Seek to the first offset."""
        self.position_of.update(dict.fromkeys(partitions, 0))
        return True

    def highwater(self, tp: aiokafka.TopicPartition) -> int:
        """The offset after the last."""
        log = self._broker.log.get(TopicPartition(*tp), [])
        return log[-1].offset + 1 if log else 0

    last_stable_offset = highwater


class MemoryProducer:
    """The producer client."""

    def __init__(self, broker: BrokerState, transactional_id: str | None) -> None:
        self._broker = broker
        self.transactional_id = transactional_id
        self._epoch = 0
        self._sent: list[tuple[str, bytes]] | None = None
        self._offsets: dict[TopicPartition, int] = {}
        self._gap = False
        """A batch is missing: the broker takes none that follow it."""
        self.stopped = False

    async def start(self) -> None:
        """Connect; a transactional id gets a new epoch, which fences the one before."""
        await self._broker.fault("start")
        if self.transactional_id is not None:
            self._epoch = self._broker.epochs.get(self.transactional_id, 0) + 1
            self._broker.epochs[self.transactional_id] = self._epoch

    async def stop(self) -> None:
        """Disconnect."""
        self.stopped = True

    async def abandon(self) -> None:
        """Disconnect at once."""
        self.stopped = True

    async def flush(self) -> None:
        """Nothing waits here: a record is taken when it is sent."""

    async def send(self, topic: str, value: bytes, **_: Any) -> Any:
        """Take a record; returns what is done once it is acknowledged."""
        return await self._add([(topic, value)])

    def create_batch(self) -> BatchBuilder:
        """A record batch as aiokafka builds it."""
        transactional = self.transactional_id is not None
        return BatchBuilder(self._broker.batch_bytes, 0, is_transactional=transactional)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> Any:
        """Take a batch; returns what is done once it is acknowledged."""
        found = _values(batch)
        acknowledged = await self._add([(topic, value) for value in found])
        self._broker.sent.append((topic, partition, len(found)))
        return acknowledged

    async def _add(self, records: list[tuple[str, bytes]]) -> Any:
        await self._broker.fault("send")
        self._check()
        acknowledged = asyncio.get_running_loop().create_future()
        try:
            if self._gap:
                raise OutOfOrderSequenceNumber
            await self._broker.fault("acknowledge")
        except KafkaError as error:
            self._gap = True
            acknowledged.set_exception(error)
            return acknowledged
        (self._broker.output if self._sent is None else self._sent).extend(records)
        acknowledged.set_result(None)
        return acknowledged

    async def begin_transaction(self) -> None:
        """Begin."""
        assert self._sent is None
        self._sent, self._offsets = [], {}

    async def send_offsets_to_transaction(self, offsets: Mapping[Any, int], group: str) -> None:
        """Offsets to commit with the transaction."""
        await self._broker.fault("send_offsets")
        self._check()
        self._broker.groups.append(group)
        self._offsets = {TopicPartition(*tp): offset for tp, offset in offsets.items()}

    async def commit_transaction(self) -> None:
        """End the transaction: its outputs and offsets become visible together."""
        await self._broker.fault("end")
        self._check()
        assert self._sent is not None
        self._broker.output += self._sent
        self._broker.committed.update(self._offsets)
        self._broker.transactions.append((len(self._sent), self._offsets))
        self._sent = None
        await self._broker.fault("answer")

    def _check(self) -> None:
        if self.transactional_id and self._epoch != self._broker.epochs[self.transactional_id]:
            raise ProducerFenced


def _values(batch: BatchBuilder) -> list[bytes]:
    """What a batch holds, read from its bytes as a broker would."""
    data, found = MemoryRecords(bytes(batch._build())), list[bytes]()
    while data.has_next():
        found += [record.value for record in data.next_batch()]
    return found
