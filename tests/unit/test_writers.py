"""Writers against a broker in memory: whatever fails, nothing is lost and nothing is doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalOperation,
    InvalidProducerEpoch,
    KafkaConnectionError,
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from streams.engine.committed import CommittedOffsets
from streams.engine.producers import ReplaceableProducer
from streams.engine.writers import (
    ForeignCommit,
    IdempotentWriter,
    PartitionLost,
    TransactionalWriter,
)
from streams.ports.batches import Outputs

EVENTS, LABELS = TP("events", 0), TP("labels", 0)
Fault = Exception | Callable[[], Any] | None


class Broker:
    """Knows the log and the committed offsets; each operation takes its next fault first."""

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.batches: list[int] = []
        self.committed: dict[TP, int] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.epoch = 0
        self.stopped = 0
        self.offered = 0
        self.member = True

    async def fault(self, operation: str) -> None:
        waiting = self.faults.get(operation, [])
        found = waiting.pop(0) if waiting else None
        if isinstance(found, Exception):
            raise found
        if found is not None:
            await found()

    async def ask(self, partitions: set[TP]) -> dict[TP, int | None]:
        await self.fault("ask")
        return {tp: self.committed.get(tp) for tp in partitions}

    async def in_group(self) -> bool:
        await self.fault("heartbeat")
        return self.member

    async def commit(self, positions: Any) -> None:
        await self.fault("commit")
        self.committed.update(positions)

    def producer(self) -> Any:
        return Producer(self)


HEADER, RECORD = 61, 10
"""Bytes of a record batch without records, and of a record with a value of one byte."""


def values(batch: BatchBuilder) -> list[bytes]:
    """What a batch holds, read from its bytes as a broker would."""
    data, found = MemoryRecords(bytes(batch._build())), list[bytes]()
    while data.has_next():
        found += [record.value for record in data.next_batch()]
    return found


class Producer:
    """What of aiokafka's producer a writer uses."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.transaction: list[bytes] | None = None
        self.offsets: dict[TP, int] = {}
        self.epoch = -1
        self.transactional = False
        self.gap = False
        """A batch is missing: the broker takes none that follow it."""

    async def start(self) -> None:
        await self.broker.fault("start")
        self.broker.epoch += 1
        self.epoch = self.broker.epoch

    async def stop(self) -> None:
        self.broker.stopped += 1

    def create_batch(self) -> BatchBuilder:
        """One that takes three records."""
        return BatchBuilder(HEADER + 3 * RECORD, 0, is_transactional=self.transactional)

    async def begin_transaction(self) -> None:
        assert self.transaction is None
        self.transaction = []

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> Any:
        assert (topic, partition) == ("out", 0)
        await self.broker.fault("send")
        self.check()
        written = values(batch)
        self.broker.batches.append(len(written))
        acknowledged = asyncio.get_running_loop().create_future()
        try:
            if self.gap:
                raise OutOfOrderSequenceNumber
            await self.broker.fault("acknowledge")
        except KafkaError as error:
            self.gap = True
            acknowledged.set_exception(error)
            return acknowledged
        (self.broker.log if self.transaction is None else self.transaction).extend(written)
        acknowledged.set_result(None)
        return acknowledged

    async def send_offsets_to_transaction(
        self, offsets: dict[TopicPartition, int], group: str
    ) -> None:
        assert group == "g"
        await self.broker.fault("offsets")
        self.broker.offered += 1
        self.offsets = {TP(*tp): at for tp, at in offsets.items()}

    async def commit_transaction(self) -> None:
        await self.broker.fault("before")
        self.check()
        assert self.transaction is not None
        self.broker.log += self.transaction
        self.broker.committed.update(self.offsets)
        self.transaction = None
        await self.broker.fault("after")

    def check(self) -> None:
        if self.epoch != self.broker.epoch:
            raise ProducerFenced


async def hang() -> None:
    await asyncio.sleep(3600)


def outputs(*values: bytes) -> Outputs:
    return {"out": [(b"k", value, []) for value in values]}


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    left = {name: waiting for name, waiting in broker.faults.items() if waiting}
    assert not left, "a fault was never met"


async def transactional(broker: Broker) -> TransactionalWriter:
    writer = TransactionalWriter(
        ReplaceableProducer(broker.producer, 0.05),
        0,
        "g",
        {EVENTS, LABELS},
        CommittedOffsets(broker.ask),
        broker.in_group,
        timeout=0.05,
    )
    await writer.open()
    return writer


async def idempotent(broker: Broker) -> IdempotentWriter:
    writer = IdempotentWriter(
        ReplaceableProducer(broker.producer, 0.05), 0, broker.commit, timeout=0.05
    )
    await writer.open()
    return writer


async def write_three(writer: TransactionalWriter | IdempotentWriter) -> None:
    """Three micro-batches in two commits."""
    await writer.write(outputs(b"1", b"2"), {EVENTS: 2})
    await writer.write(outputs(b"3"), {EVENTS: 3})
    await writer.commit()
    await writer.write(outputs(b"4"), {EVENTS: 4})
    await writer.commit()


@pytest.mark.parametrize(
    ("operation", "faults"),
    [
        pytest.param("start", [], id="nothing fails"),
        pytest.param("send", [KafkaConnectionError()], id="first send fails"),
        pytest.param("send", [None, KafkaConnectionError()], id="second send fails"),
        pytest.param("send", [None, IllegalOperation()], id="an error before has ended it"),
        pytest.param("send", [hang], id="send hangs"),
        pytest.param("send", [None, hang, hang], id="send fails twice"),
        pytest.param("acknowledge", [KafkaConnectionError()], id="not acknowledged"),
        pytest.param("offsets", [KafkaConnectionError()], id="offsets fail"),
        pytest.param("before", [KafkaConnectionError()], id="commit fails"),
        pytest.param("before", [hang], id="commit times out and did not commit"),
        pytest.param("after", [hang], id="commit times out and did commit"),
        pytest.param("after", [hang, hang], id="each commit times out and did commit"),
        pytest.param("after", [None, TimeoutError()], id="second commit's answer is lost"),
    ],
)
async def test_a_transaction_is_written_exactly_once(
    broker: Broker, operation: str, faults: list[Fault]
) -> None:
    broker.faults[operation] = faults
    writer = await transactional(broker)
    await write_three(writer)
    assert broker.log == [b"1", b"2", b"3", b"4"]
    assert broker.committed == {EVENTS: 4}
    await writer.close()


async def test_recovery_waits_for_the_broker(broker: Broker) -> None:
    writer = await transactional(broker)
    broker.faults = {
        "before": [hang],
        "start": [KafkaConnectionError(), hang],
        "ask": [KafkaConnectionError()],
    }
    await write_three(writer)
    assert broker.log == [b"1", b"2", b"3", b"4"]
    await writer.close()


async def test_nothing_is_visible_before_the_commit(broker: Broker) -> None:
    writer = await transactional(broker)
    await writer.write(outputs(b"1"), {EVENTS: 1})
    assert broker.log == []
    await writer.close()
    assert broker.log == []
    assert broker.committed == {}


ERRORS = [ProducerFenced(), InvalidProducerEpoch(), IllegalOperation(), TimeoutError()]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("operation", ["send", "offsets", "before"])
async def test_a_writer_that_its_group_has_given_up_fences_nobody(
    broker: Broker, operation: str, error: Exception
) -> None:
    writer = await transactional(broker)
    broker.faults[operation] = [error]
    broker.member = False
    with pytest.raises(PartitionLost):
        await write_three(writer)
    assert broker.log == []
    assert broker.epoch == 1
    await writer.close()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("operation", ["send", "offsets", "before"])
async def test_a_writer_that_is_fenced_by_a_stranger_takes_the_partition_back(
    broker: Broker, operation: str, error: Exception
) -> None:
    writer = await transactional(broker)
    broker.faults[operation] = [error]
    broker.faults["heartbeat"] = [KafkaConnectionError(), hang]
    await write_three(writer)
    assert broker.log == [b"1", b"2", b"3", b"4"]
    assert broker.epoch == 2
    await writer.close()


@pytest.mark.parametrize("moved", [{EVENTS: 1}, {EVENTS: 7}, {LABELS: 1}])
async def test_a_writer_that_finds_a_strangers_commit_writes_nothing_more(
    broker: Broker, moved: dict[TP, int]
) -> None:
    writer = await transactional(broker)

    async def replaced() -> None:
        broker.committed.update(moved)
        raise TimeoutError

    broker.faults["offsets"] = [replaced]
    with pytest.raises(ForeignCommit, match="partition 0"):
        await write_three(writer)
    assert broker.log == []
    await writer.close()


@pytest.mark.parametrize("new_writer", [transactional, idempotent])
async def test_more_than_a_producer_batch_is_split(broker: Broker, new_writer: Any) -> None:
    writer = await new_writer(broker)
    numbers = [b"%d" % i for i in range(7)]
    await writer.write(outputs(*numbers), {EVENTS: 7})
    await writer.commit()
    assert broker.log == numbers
    assert broker.batches == [3, 3, 1]
    await writer.close()


@pytest.mark.parametrize("new_writer", [transactional, idempotent])
async def test_offsets_without_outputs_are_committed(broker: Broker, new_writer: Any) -> None:
    writer = await new_writer(broker)
    await writer.write({"out": []}, {EVENTS: 7})
    await writer.commit()
    assert broker.committed == {EVENTS: 7}
    assert broker.batches == []
    await writer.close()


async def test_at_least_once_acknowledges_outputs_before_it_commits(broker: Broker) -> None:
    writer = await idempotent(broker)
    await writer.write(outputs(b"1"), {EVENTS: 1})
    assert broker.log == [b"1"]
    assert broker.committed == {}
    await writer.commit()
    assert broker.committed == {EVENTS: 1}
    await writer.close()


async def test_at_least_once_does_not_wait_for_one_write_before_the_next(broker: Broker) -> None:
    writer = await idempotent(broker)
    acknowledged: asyncio.Future[None] = asyncio.Future()

    async def later(producer: Any, written: Outputs, partition: int) -> list[Any]:
        del producer, partition
        broker.log += [value for _, value, _ in written["out"] if value]
        return [acknowledged]

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr("streams.engine.outbox.send", later)
        await writer.write(outputs(b"1"), {EVENTS: 1})
        await writer.write(outputs(b"2"), {EVENTS: 2})
        assert broker.log == [b"1", b"2"]
        asyncio.get_running_loop().call_later(0.01, acknowledged.set_result, None)
        await writer.commit()
    assert acknowledged.done()
    assert broker.committed == {EVENTS: 2}
    await writer.close()


@pytest.mark.parametrize(
    ("operation", "faults"),
    [
        ("send", [KafkaConnectionError()]),
        ("send", [hang]),
        ("acknowledge", [KafkaConnectionError()]),
        ("commit", [KafkaConnectionError(), KafkaConnectionError()]),
    ],
)
async def test_at_least_once_repeats_what_failed(
    broker: Broker, operation: str, faults: list[Fault]
) -> None:
    writer = await idempotent(broker)
    broker.faults[operation] = faults
    await write_three(writer)
    assert broker.log == [b"1", b"2", b"3", b"4"]
    assert broker.committed == {EVENTS: 4}
    await writer.close()


@pytest.mark.parametrize("operation", ["send", "acknowledge"])
async def test_at_least_once_writes_all_that_is_uncommitted_again_and_in_order(
    broker: Broker, operation: str
) -> None:
    writer = await idempotent(broker)
    broker.faults[operation] = [None, KafkaConnectionError()]
    await write_three(writer)
    assert broker.log == [b"1", b"2", b"1", b"2", b"3", b"4"]
    assert broker.committed == {EVENTS: 4}
    await writer.close()


async def test_at_least_once_follows_a_producer_that_another_writer_has_replaced(
    broker: Broker,
) -> None:
    shared = ReplaceableProducer(broker.producer, 0.05)
    writer = IdempotentWriter(shared, 0, broker.commit, timeout=0.05)
    await writer.write(outputs(b"1"), {EVENTS: 1})
    await shared.replace(await shared.get())
    await writer.write(outputs(b"2"), {EVENTS: 2})
    assert broker.log == [b"1", b"1", b"2"]
    await shared.replace(await shared.get())
    await writer.commit()
    assert broker.log == [b"1", b"1", b"2", b"1", b"2"]
    assert broker.committed == {EVENTS: 2}
    await shared.close()


async def test_at_least_once_gives_up_a_partition_that_was_reassigned(broker: Broker) -> None:
    writer = await idempotent(broker)
    broker.faults["commit"] = [CommitFailedError()]
    with pytest.raises(PartitionLost):
        await write_three(writer)
    assert broker.committed == {}
    await writer.close()


async def test_a_closed_writer_has_stopped_every_producer(broker: Broker) -> None:
    writer = await transactional(broker)
    broker.faults["before"] = [hang]
    await write_three(writer)
    await writer.close()
    assert broker.stopped == broker.epoch == 2


async def test_offsets_are_sent_again_only_where_there_are_more(broker: Broker) -> None:
    writer = await transactional(broker)
    await writer.write(outputs(b"1"), {EVENTS: 1})
    await writer.commit()
    assert broker.offered == 1
    await writer.write(outputs(b"2"), {EVENTS: 2})
    await writer.write(outputs(b"3"), {EVENTS: 3})
    await writer.commit()
    assert broker.offered == 3
    assert broker.committed == {EVENTS: 3}
    await writer.close()
