"""Exactly once is refused, in one line, where the broker cannot run transactions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.errors import ConfigurationError, Unavailable
from streams.kafka.topics import check_transactions
from streams.settings import Settings
from workers.devstack import kafka
from workers.devstack.servers import free_port, spawn
from workers.devstack.stack import GUARD


@pytest.fixture
def without_transactions(tmp_path: Path) -> Iterator[str]:
    """A broker whose transaction log wants more replicas than there are brokers."""
    ports, cache = kafka.NodePorts(free_port(), free_port()), Settings().cache_dir
    node = kafka.Node(tmp_path, tmp_path, ports, None, cache, print)
    controller, broker = kafka.controller(node), kafka.broker(node)
    properties = tmp_path / "broker" / "server.properties"
    wanted = "transaction.state.log.replication.factor="
    text = properties.read_text()
    assert f"{wanted}1\n" in text
    properties.write_text(text.replace(f"{wanted}1\n", f"{wanted}3\n"))
    processes = [spawn(server, GUARD) for server in (controller, broker)]
    try:
        deadline = time.monotonic() + 30
        while not broker.healthy():
            assert time.monotonic() < deadline, broker.log.read_text()[-2000:]
            time.sleep(0.1)
        yield broker.address
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def test_a_broker_without_transactions_is_refused_with_the_mend(
    without_transactions: str,
) -> None:
    settings = Settings(kafka=without_transactions, connect_timeout=1.0)
    with pytest.raises(
        ConfigurationError, match=r"does not run transactions.*no answer in 3 s"
    ) as e:
        await check_transactions(settings, "orders")
    assert "DRIFTLOOP_DELIVERY=at_least_once" in str(e.value)
    assert "\n" not in str(e.value)


async def test_a_broker_with_transactions_is_accepted(settings: Settings) -> None:
    await check_transactions(settings, "orders")


async def test_a_broker_that_is_away_is_not_taken_for_one_without_transactions() -> None:
    settings = Settings(kafka=f"127.0.0.1:{free_port()}", connect_timeout=1.0)
    with pytest.raises(Unavailable, match=r"cannot reach Kafka at 127\.0\.0\.1"):
        await check_transactions(settings, "orders")
