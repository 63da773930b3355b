"""A standby keeps copies of others' label stores near what is committed, and holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import orjson
import pytest
from aiokafka import ConsumerRecord
from prometheus_client import REGISTRY

from streams.adapters.memory.labels import MemoryLabelStore
from streams.aio.cancelling import cancel
from streams.errors import Busy, Unavailable
from streams.labelling import standby
from streams.labelling.standby import Standby
from streams.ports.batches import TopicPartition
from streams.ports.labels import EventName
from streams.records import Scored, encode
from streams.spec import Feedback
from tests.unit.pipelines import declare

PIPELINE = declare(feedback=Feedback(horizon="1h", missing=0, keep="1d"))
SCORED, FEEDBACK = PIPELINE.topics.scored, PIPELINE.topics.feedback
T0 = 1_700_000_000.0


class Store(MemoryLabelStore):
    """Knows whether it is open, and for how many records it stayed so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = False
        self.ends: list[dict[str, int]] = []

    def close(self) -> None:
        super().close()
        self.is_open = False
        self.ends.append(self.positions)


class Machine:
    """A disk with stores, and topics to follow."""

    def __init__(self, partitions: int = 2, records: int = 100) -> None:
        self.stores = {number: Store() for number in range(partitions)}
        self.busy: set[int] = set()
        self.committed: dict[TopicPartition, int | None] = {}
        self.stalls: asyncio.Event | None = None
        scored = [
            encode(Scored(f"o{n}", T0 + n, ["ann"], bytes(4), 0.5, 1)) for n in range(records)
        ]
        labels = [
            orjson.dumps({"event_id": f"o{n}", "label": 1, "labelled_at": T0 + n})
            for n in range(records)
        ]
        self.log = {SCORED: scored, FEEDBACK: labels}
        self.away = 0
        """How many more times Kafka does not say what is committed."""
        self.standby = Standby(PIPELINE, self.open, self.ask, self.read)

    def commit(self, partition: int, scored: int | None, feedback: int | None) -> None:
        self.committed[TopicPartition(SCORED, partition)] = scored
        self.committed[TopicPartition(FEEDBACK, partition)] = feedback

    def open(self, partition: int) -> Store:
        store = self.stores[partition]
        if partition in self.busy:
            raise Busy("the label store", partition, "lock")
        assert not store.is_open
        store.is_open = True
        return store

    async def ask(self) -> Mapping[TopicPartition, int | None]:
        if self.away:
            self.away -= 1
            raise Unavailable("Kafka", "here", "DRIFTLOOP_KAFKA")
        return self.committed

    async def read(
        self, topic: str, partition: int, first: int, end: int
    ) -> AsyncIterator[list[ConsumerRecord]]:
        for start in range(first, end, 20):
            if self.stalls is not None:
                await self.stalls.wait()
            yield [
                ConsumerRecord(
                    topic, partition, n, 0, 0, b"ann", self.log[topic][n], None, 3, 3, ()
                )
                for n in range(start, min(start + 20, end))
            ]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(standby, "_BEHIND", 10)
    monkeypatch.setattr(standby, "_EVERY", 0.001)
    return Machine()


async def test_a_copy_is_a_store_as_its_owner_has_it(machine: Machine) -> None:
    machine.commit(0, 50, 30)
    await machine.standby.follow(owned=set())
    copy = machine.stores[0]
    assert copy.positions == {SCORED: 50, FEEDBACK: 30}
    assert copy.watermark == T0 + 49
    found = copy.entries([EventName(b"ann", f"o{n}") for n in range(60)])
    assert [served is not None for served in found] == [True] * 50 + [False] * 10
    assert [len(served.labels) for served in found if served] == [1] * 30 + [0] * 20
    assert not copy.is_open


async def test_what_is_owned_or_nearly_there_is_left_alone(machine: Machine) -> None:
    machine.commit(0, 50, 30)
    machine.commit(1, 5, 4)
    await machine.standby.follow(owned={0})
    assert machine.stores[0].ends == []
    assert machine.stores[1].positions == {}
    lag = {"pipeline": PIPELINE.name, "partition": "1"}
    assert REGISTRY.get_sample_value("driftloop_standby_lag_records", lag) == 9
    machine.commit(1, 50, None)
    await machine.standby.follow(owned={0})
    assert machine.stores[1].positions == {SCORED: 50}
    assert REGISTRY.get_sample_value("driftloop_standby_lag_records", lag) == 0


async def test_a_partition_that_was_taken_over_is_no_copy_any_more(machine: Machine) -> None:
    lag = {"pipeline": PIPELINE.name, "partition": "0"}
    machine.commit(0, 5, 4)
    await machine.standby.follow(owned=set())
    assert REGISTRY.get_sample_value("driftloop_standby_lag_records", lag) == 9
    following = asyncio.create_task(machine.standby.run(owned={0}))
    await asyncio.sleep(0.01)
    assert REGISTRY.get_sample_value("driftloop_standby_lag_records", lag) == 0
    await cancel(following)


async def test_a_store_that_is_in_use_does_not_hold_up_the_others(machine: Machine) -> None:
    machine.busy = {0}
    machine.commit(0, 50, 30)
    machine.commit(1, 50, 30)
    await machine.standby.follow(owned=set())
    assert machine.stores[0].positions == {}
    assert machine.stores[1].positions == {SCORED: 50, FEEDBACK: 30}


async def test_a_store_is_let_go_in_between(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "_HELD", 40)
    machine.commit(0, 100, 10)
    await machine.standby.follow(owned=set())
    assert [ends.get(SCORED, 0) for ends in machine.stores[0].ends] == [0, 40, 80, 100]


async def test_cut_off_it_lets_go_and_the_copy_stays_sound(machine: Machine) -> None:
    machine.commit(0, 100, 100)
    machine.stalls = asyncio.Event()
    following = asyncio.create_task(machine.standby.run(owned=set()))
    await asyncio.sleep(0.02)
    assert machine.stores[0].is_open
    await cancel(following)
    assert not machine.stores[0].is_open
    machine.stalls = None
    await machine.standby.follow(owned=set())
    assert machine.stores[0].positions == {SCORED: 100, FEEDBACK: 100}


async def test_a_kafka_that_is_away_is_waited_for(machine: Machine) -> None:
    machine.away = 2
    machine.commit(0, 50, 30)
    following = asyncio.create_task(machine.standby.run(owned=set()))
    async with asyncio.timeout(5):
        while machine.stores[0].positions != {SCORED: 50, FEEDBACK: 30}:
            await asyncio.sleep(0.002)
    await cancel(following)
