"""aiokafka's workarounds are applied when a program starts, and refuse an aiokafka without them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from aiokafka.consumer import consumer
from aiokafka.producer import sender

from streams.errors import ConfigurationError
from streams.kafka import workarounds

IMPORTS = """
import streams.app, streams.wiring, streams.ledger.topic, workers.cli, workers.roles
from aiokafka import conn
from aiokafka.consumer import consumer
from aiokafka.producer import producer, sender
for one in (conn.AIOKafkaConnection, consumer.Fetcher, consumer.GroupCoordinator,
            consumer.AIOKafkaClient, producer.AIOKafkaClient):
    assert one.__module__.startswith("aiokafka."), one
assert sender.BACKOFF_OVERRIDE != 0.002
"""


def test_an_import_changes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_applying_again_changes_nothing() -> None:
    workarounds.apply()
    before = consumer.Fetcher, consumer.GroupCoordinator
    workarounds.apply()
    assert (consumer.Fetcher, consumer.GroupCoordinator) == before


@pytest.mark.parametrize(("module", "name"), [(consumer, "Fetcher"), (sender, "BACKOFF_OVERRIDE")])
def test_a_name_that_is_gone_is_an_error(
    module: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(module, name)
    with pytest.raises(ConfigurationError, match=rf"has no aiokafka\.\S+\.{name} .* install"):
        workarounds.apply()


def test_a_class_of_somebody_elses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "Fetcher", object)
    with pytest.raises(ConfigurationError, match="Fetcher"):
        workarounds.apply()
