"""The books are kept whatever the broker does, and a worker never ends because of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from streams.errors import Unavailable
from streams.metering import meter
from streams.metering.account import Account, Usage
from streams.records import decoder
from streams.settings import Settings
from tests.unit.pipelines import declare
from tests.unit.streams.metering.test_account import opened, reading

PIPELINE = declare(name="metered-books")
decode = decoder(Usage).decode


class Topic:
    """`P.costs`, of a broker that may be away."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self.away = False

    async def put(self, _: Settings, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        assert topic == PIPELINE.topics.costs
        if self.away:
            raise Unavailable("Kafka", "none:1", "DRIFTLOOP_KAFKA")
        self.records += records

    @property
    def latest(self) -> dict[bytes, Usage]:
        return {key: decode(value) for key, value in self.records}


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    made = Topic()
    monkeypatch.setattr(meter, "put", made.put)
    return made


def cost() -> float:
    labels = {"pipeline": PIPELINE.name, "role": "score"}
    return REGISTRY.get_sample_value("driftloop_cost_total", labels) or 0.0


async def test_what_could_not_be_written_is_in_the_next_record(topic: Topic) -> None:
    books, mine = meter.Books(Settings(price_cpu_hour=3600.0), PIPELINE), opened()
    before = cost()
    mine.take(reading(10, cpu_seconds=1.0))
    topic.away = True
    with structlog.testing.capture_logs() as said:
        await books.write(mine)
        mine.take(reading(20, cpu_seconds=2.0))
        await books.write(mine)
    assert [line["log_level"] for line in said] == ["warning"]
    assert "cannot reach Kafka at none:1" in said[0]["error"]
    topic.away = False
    await books.write(mine)
    [record] = topic.latest.values()
    assert record == mine.records[0]
    assert len(topic.records) == 1
    # two CPUs are reserved: 20 seconds cost 40, told once whatever the broker did
    assert cost() - before == pytest.approx(40.0)
    await books.write(mine)
    assert len(topic.records) == 1


async def test_a_broker_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(meter, "put", hang)
    mine = opened()
    mine.take(reading(10, cpu_seconds=1.0))
    with structlog.testing.capture_logs() as said:
        await meter.Books(Settings(connect_timeout=0.01), PIPELINE).write(mine)
    assert said[0]["error"] == "no answer"
    assert mine.changed()


async def test_a_meter_writes_when_it_is_closed_and_not_before_it_was_started(topic: Topic) -> None:
    mine = meter.Meter(Settings(), PIPELINE, "score")
    await mine.close()
    assert topic.records == []
    mine.start()
    await mine.close()
    assert {one.role for one in topic.latest.values()} == {"score"}
    assert sum(one.cpu_seconds for one in topic.latest.values()) > 0


async def test_two_lives_of_a_process_are_two_records(topic: Topic) -> None:
    books = meter.Books(Settings(), PIPELINE)
    for process, cpu in (("host-1-5.00", 3.0), ("host-1-9.00", 4.0)):
        life: Account = opened(process)
        life.take(reading(10, cpu_seconds=cpu))
        await books.write(life)
        await books.write(life)
    assert sorted(one.cpu_seconds for one in topic.latest.values()) == [3, 4]
