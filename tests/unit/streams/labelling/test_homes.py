"""Where the events of a key are is told from where they were, and labels are passed on to there."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest
from aiokafka import ConsumerRecord
from aiokafka.partitioner import DefaultPartitioner

from streams.adapters.memory.labels import MemoryLabelStore
from streams.adapters.memory.state import MemoryFeatureState
from streams.kafka.partitioning import by_crc32, by_murmur2
from streams.labelling.homes import Homes
from streams.labelling.processor import Labelling
from streams.ports.batches import MicroBatch, TopicPartition
from tests.unit.pipelines import declare
from tests.unit.streams.scoring.test_processor import nothing

Choose = Callable[[bytes, int], int]
KEYS = [b"customer-%d" % i for i in range(200)]


def placed(choose: Choose, count: int, keys: list[bytes] = KEYS) -> list[tuple[int, bytes]]:
    return [(choose(key, count), key) for key in keys]


def test_the_two_families_choose_as_their_clients_do() -> None:
    ids = list(range(7))
    assert [by_murmur2(key, 7) for key in KEYS] == [
        DefaultPartitioner()(key, ids, ids) for key in KEYS
    ]
    assert by_crc32(b"123456789", 1 << 32) == 0xCBF43926  # the algorithm's check value


@pytest.mark.parametrize("count", [2, 3, 4, 6, 12])
@pytest.mark.parametrize(("name", "choose"), [("murmur2", by_murmur2), ("CRC-32", by_crc32)])
def test_the_family_is_told(name: str, choose: Choose, count: int) -> None:
    found = Homes.of(placed(choose, count), count)
    assert (list(found.ways), found.unexplained) == ([(name, count)], False)
    for key in KEYS[:20]:
        home = choose(key, count)
        assert found.others(key, home) == []
        assert found.others(key, (home + 1) % count) == [home]


@pytest.mark.parametrize(("before", "now"), [(4, 6), (4, 8), (1, 3), (3, 5)])
def test_partitions_that_were_added_are_told(before: int, now: int) -> None:
    served = placed(by_murmur2, before, KEYS[:100]) + placed(by_murmur2, now, KEYS[100:])
    found = Homes.of(served, now)
    assert found.ways[0] == ("murmur2", now)
    for key in KEYS[:100]:
        at = by_murmur2(key, now)
        assert by_murmur2(key, before) in [at, *found.others(key, at)]


def test_a_way_of_its_own_is_said_and_few_keys_tell_nothing() -> None:
    odd = [(len(key) % 4, key) for key in KEYS]
    assert Homes.of(odd, 4).unexplained
    assert Homes.of(placed(by_crc32, 4, KEYS[:5]), 4) == Homes()
    assert Homes().others(b"k", 0) == []


async def test_a_label_that_finds_no_event_is_passed_on_once() -> None:
    pipeline = declare()
    topic = pipeline.topics.feedback
    key = next(key for key in KEYS if by_crc32(key, 4) == 3)
    value = orjson.dumps({"event_id": "o1", "label": 1, "labelled_at": 1.7e9})
    homes = Homes.of(placed(by_crc32, 4), 4)

    async def outputs(partition: int, *headers: tuple[str, bytes]) -> dict[object, object]:
        state = MemoryFeatureState(pipeline.plan)
        labelling = Labelling(pipeline, partition, MemoryLabelStore, state, nothing, homes=homes)
        await labelling.open({})
        record = ConsumerRecord(topic, partition, 0, 0, 0, key, value, None, 0, 0, headers)
        found = await labelling.process(MicroBatch(topic, partition, [record], 0, 0))
        return {target: made for target, made in found.items() if made}

    passed_on = ("passed-on-from", b"1")
    assert await outputs(1, ("trace", b"x")) == {
        TopicPartition(topic, 3): [(key, value, [("trace", b"x"), passed_on])]
    }
    assert await outputs(3) == {}
    assert await outputs(2, passed_on) == {}
