"""Writers against a broker in memory: whatever fails, nothing is lost and nothing is doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    IllegalOperation,
    InvalidProducerEpoch,
    KafkaConnectionError,
    MessageSizeTooLargeError,
    ProducerFenced,
    TransactionalIdAuthorizationFailed,
)

from streams.engine import producers
from streams.engine.committed import CommittedOffsets
from streams.engine.producers import Refused, ReplaceableProducer
from streams.engine.writers import (
    ForeignCommit,
    IdempotentWriter,
    PartitionLost,
    TransactionalWriter,
)
from streams.ports.batches import Outputs, TopicPartition
from streams.testing.broker import Fault, MemoryBroker, MemoryProducer

EVENTS, LABELS = TopicPartition("events", 0), TopicPartition("labels", 0)


HEADER, RECORD = 61, 10
"""Bytes of a record batch without records, and of a record with a value of one byte."""


class Broker(MemoryBroker):
    """Takes three records in a batch; says what came of the one partition."""

    def __init__(self) -> None:
        super().__init__(batch_bytes=HEADER + 3 * RECORD)

    @property
    def values(self) -> list[bytes]:
        assert {topic for topic, _ in self.output} <= {"out"}
        return [value for _, value in self.output]

    @property
    def batches(self) -> list[int]:
        assert {partition for _, partition, _ in self.sent} <= {0}
        return [records for _, _, records in self.sent]

    @property
    def offered(self) -> int:
        assert set(self.groups) <= {"g"}
        return len(self.groups)

    @property
    def epoch(self) -> int:
        return self.epochs["g-0"]

    @property
    def stopped(self) -> int:
        return sum(producer.stopped for producer in self.producers)

    def transactional(self) -> MemoryProducer:
        return self.new_producer(transactional_id="g-0")


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
        ReplaceableProducer(broker.transactional, 0.05),
        0,
        "g",
        {EVENTS, LABELS},
        CommittedOffsets(broker.ask),
        broker.counted_in,
        timeout=0.05,
    )
    await writer.open()
    return writer


async def idempotent(broker: Broker) -> IdempotentWriter:
    writer = IdempotentWriter(
        ReplaceableProducer(broker.new_producer, 0.05), 0, broker.commit, timeout=0.05
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
        pytest.param("send_offsets", [KafkaConnectionError()], id="offsets fail"),
        pytest.param("end", [KafkaConnectionError()], id="commit fails"),
        pytest.param("end", [hang], id="commit times out and did not commit"),
        pytest.param("answer", [hang], id="commit times out and did commit"),
        pytest.param("answer", [hang, hang], id="each commit times out and did commit"),
        pytest.param("answer", [None, TimeoutError()], id="second commit's answer is lost"),
    ],
)
async def test_a_transaction_is_written_exactly_once(
    broker: Broker, operation: str, faults: list[Fault]
) -> None:
    broker.faults[operation] = faults
    writer = await transactional(broker)
    await write_three(writer)
    assert broker.values == [b"1", b"2", b"3", b"4"]
    assert broker.committed == {EVENTS: 4}
    await writer.close()


async def test_recovery_waits_for_the_broker(broker: Broker) -> None:
    writer = await transactional(broker)
    broker.faults = {
        "end": [hang],
        "start": [KafkaConnectionError(), hang],
        "ask": [KafkaConnectionError()],
    }
    await write_three(writer)
    assert broker.values == [b"1", b"2", b"3", b"4"]
    await writer.close()


async def test_nothing_is_visible_before_the_commit(broker: Broker) -> None:
    writer = await transactional(broker)
    await writer.write(outputs(b"1"), {EVENTS: 1})
    assert broker.values == []
    await writer.close()
    assert broker.values == []
    assert broker.committed == {}


ERRORS = [ProducerFenced(), InvalidProducerEpoch(), IllegalOperation(), TimeoutError()]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("operation", ["send", "send_offsets", "end"])
async def test_a_writer_that_its_group_has_given_up_fences_nobody(
    broker: Broker, operation: str, error: Exception
) -> None:
    writer = await transactional(broker)
    broker.faults[operation] = [error]
    broker.member = False
    with pytest.raises(PartitionLost):
        await write_three(writer)
    assert broker.values == []
    assert broker.epoch == 1
    await writer.close()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("operation", ["send", "send_offsets", "end"])
async def test_a_writer_that_is_fenced_by_a_stranger_takes_the_partition_back(
    broker: Broker, operation: str, error: Exception
) -> None:
    writer = await transactional(broker)
    broker.faults[operation] = [error]
    broker.faults["heartbeat"] = [KafkaConnectionError(), hang]
    await write_three(writer)
    assert broker.values == [b"1", b"2", b"3", b"4"]
    assert broker.epoch == 2
    await writer.close()


@pytest.mark.parametrize("moved", [{EVENTS: 1}, {EVENTS: 7}, {LABELS: 1}])
async def test_a_writer_that_finds_a_strangers_commit_writes_nothing_more(
    broker: Broker, moved: dict[TopicPartition, int]
) -> None:
    writer = await transactional(broker)

    async def replaced() -> None:
        broker.committed.update(moved)
        raise TimeoutError

    broker.faults["send_offsets"] = [replaced]
    with pytest.raises(ForeignCommit, match="partition 0"):
        await write_three(writer)
    assert broker.values == []
    await writer.close()


@pytest.mark.parametrize("new_writer", [transactional, idempotent])
async def test_more_than_a_producer_batch_is_split(broker: Broker, new_writer: Any) -> None:
    writer = await new_writer(broker)
    numbers = [b"%d" % i for i in range(7)]
    await writer.write(outputs(*numbers), {EVENTS: 7})
    await writer.commit()
    assert broker.values == numbers
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
    assert broker.values == [b"1"]
    assert broker.committed == {}
    await writer.commit()
    assert broker.committed == {EVENTS: 1}
    await writer.close()


async def test_at_least_once_does_not_wait_for_one_write_before_the_next(broker: Broker) -> None:
    writer = await idempotent(broker)
    acknowledged: asyncio.Future[None] = asyncio.Future()

    async def later(producer: Any, written: Outputs, partition: int) -> list[Any]:
        del producer, partition
        broker.output += [("out", value) for _, value, _ in written["out"] if value]
        return [acknowledged]

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr("streams.engine.outbox.send", later)
        await writer.write(outputs(b"1"), {EVENTS: 1})
        await writer.write(outputs(b"2"), {EVENTS: 2})
        assert broker.values == [b"1", b"2"]
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
    assert broker.values == [b"1", b"2", b"3", b"4"]
    assert broker.committed == {EVENTS: 4}
    await writer.close()


@pytest.mark.parametrize("operation", ["send", "acknowledge"])
async def test_at_least_once_writes_all_that_is_uncommitted_again_and_in_order(
    broker: Broker, operation: str
) -> None:
    writer = await idempotent(broker)
    broker.faults[operation] = [None, KafkaConnectionError()]
    await write_three(writer)
    assert broker.values == [b"1", b"2", b"1", b"2", b"3", b"4"]
    assert broker.committed == {EVENTS: 4}
    await writer.close()


async def test_at_least_once_follows_a_producer_that_another_writer_has_replaced(
    broker: Broker,
) -> None:
    shared = ReplaceableProducer(broker.new_producer, 0.05)
    writer = IdempotentWriter(shared, 0, broker.commit, timeout=0.05)
    await writer.write(outputs(b"1"), {EVENTS: 1})
    await shared.replace(await shared.get())
    await writer.write(outputs(b"2"), {EVENTS: 2})
    assert broker.values == [b"1", b"1", b"2"]
    await shared.replace(await shared.get())
    await writer.commit()
    assert broker.values == [b"1", b"1", b"2", b"1", b"2"]
    assert broker.committed == {EVENTS: 2}
    await shared.close()


async def test_at_least_once_gives_up_a_partition_that_was_reassigned(broker: Broker) -> None:
    writer = await idempotent(broker)
    broker.faults["commit"] = [CommitFailedError()]
    with pytest.raises(PartitionLost):
        await write_three(writer)
    assert broker.committed == {}
    await writer.close()


@pytest.mark.parametrize("operation", ["send", "acknowledge", "start", "commit", "end"])
@pytest.mark.parametrize("mode", ["exactly once", "at least once"])
async def test_what_no_retry_mends_ends_the_worker_and_commits_nothing(
    broker: Broker, operation: str, mode: str
) -> None:
    if operation in {"exactly once": ("commit",), "at least once": ("end",)}[mode]:
        pytest.skip("is not asked for in this mode")
    refusals = {
        "start": TransactionalIdAuthorizationFailed,
        "commit": GroupAuthorizationFailedError,
    }
    writer = await (transactional if mode == "exactly once" else idempotent)(broker)
    refusal = refusals.get(operation, MessageSizeTooLargeError)("too large\nfor us")
    if operation == "start":  # of the producer that takes the place of one that failed
        broker.faults["send"] = [KafkaConnectionError()]
    broker.faults[operation] = [refusal]
    with pytest.raises(Refused, match="Kafka refuses what is written") as caught:
        await write_three(writer)
    assert "\n" not in str(caught.value)
    assert broker.committed == {}
    await writer.close()


async def test_failures_in_a_row_are_further_and_further_apart(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    writer = await transactional(broker)
    monkeypatch.setattr(producers, "asyncio", SimpleNamespace(sleep=sleep, timeout=asyncio.timeout))
    broker.faults["end"] = [KafkaConnectionError() for _ in range(9)]
    await write_three(writer)
    assert pauses == sorted(pauses)
    assert pauses[0] > 0
    assert pauses[-1] == 2.0
    assert broker.committed == {EVENTS: 4}
    await writer.close()


async def test_a_closed_writer_has_stopped_every_producer(broker: Broker) -> None:
    writer = await transactional(broker)
    broker.faults["end"] = [hang]
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
