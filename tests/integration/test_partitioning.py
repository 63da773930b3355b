"""Labels whose clients choose other partitions than the events' clients find their events."""

from __future__ import annotations

from pathlib import Path

import orjson

from streams.kafka.connection import producer
from streams.kafka.partitioning import by_crc32, by_murmur2
from streams.kafka.topics import ensure_topics, group_id
from streams.records import Example, decoder
from streams.settings import Settings
from tests.faults.harness import Output, Workers, card_fraud_module, members, publish
from tests.integration.test_bad_input import T0, event
from tests.waiting import until

WEEKS = 3 * 604_800


async def test_events_by_crc32_and_labels_by_murmur2_meet(
    settings: Settings, tmp_path: Path
) -> None:
    pipeline = card_fraud_module(tmp_path, "families")
    topics, count = pipeline.topics, settings.partitions
    await ensure_topics(settings, pipeline)
    keys = [b"customer-%d" % number for number in range(40)]

    async def send(prefix: str, at: float) -> None:
        async with producer(settings) as out:
            for number, key in enumerate(keys):
                value = event(f"{prefix}{number}", customer_id=key.decode(), tx_time=at)
                home = by_crc32(key, count)
                await out.send(topics.events, key=key, value=value, partition=home)

    with Workers(settings, pipeline, tmp_path) as workers:
        workers.start("score")
        async with Output(settings, topics.scored) as scored:
            await send("a", T0)
            await scored.wait(40)
        labeller = workers.start("label")
        group = group_id(pipeline.name, "label")

        async def joined() -> bool:
            return await members(settings, group) > 0

        await until(joined, "a member")
        labels = [
            (key, orjson.dumps({"event_id": f"a{number}", "label": 1, "labelled_at": T0 + 60}))
            for number, key in enumerate(keys)
        ]
        await publish(settings, topics.feedback, labels)
        elsewhere = sum(by_murmur2(key, count) != by_crc32(key, count) for key in keys)
        async with Output(settings, topics.feedback) as feedback:
            await feedback.wait(len(labels) + elsewhere)
        await send("b", T0 + WEEKS)
        async with Output(settings, topics.examples) as examples:
            await examples.wait(40)
        assert labeller.alive, labeller.said()
        assert labeller.log.read_bytes().count(b"labels come on other partitions") <= count
        assert b"labels come on other partitions" in labeller.log.read_bytes()
    found = [decoder(Example).decode(record.value) for record in examples.records]
    assert sorted(one.event_id for one in found) == sorted(f"a{number}" for number in range(40))
    assert {(one.label, one.origin) for one in found} == {(1.0, "feedback")}
