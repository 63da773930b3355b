"""What reaches the log."""

from __future__ import annotations

import logging
import socket

import pytest

from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.telemetry import Seldom, serve_metrics


def said(name: str, text: str, at: float, *arguments: object) -> logging.LogRecord:
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, text, arguments, None)
    record.created = at
    return record


def test_a_library_repeats_itself_once_in_five_seconds_whatever_the_arguments() -> None:
    seldom = Seldom("aiokafka")
    times = [100.0, 100.1, 102.0, 105.0, 106.0, 110.5]
    let = [seldom.filter(said("aiokafka.conn", "node %s", at, at)) for at in times]
    assert let == [True, False, False, True, False, True]


@pytest.mark.parametrize(
    ("name", "text"), [("aiokafka.conn", "other"), ("aiokafka.client", "node"), ("streams", "node")]
)
def test_what_differs_is_let_through(name: str, text: str) -> None:
    seldom = Seldom("aiokafka")
    assert seldom.filter(said("aiokafka.conn", "node", 100.0))
    assert seldom.filter(said(name, text, 100.1))


def test_others_may_repeat_themselves() -> None:
    seldom = Seldom("aiokafka")
    assert all(seldom.filter(said("streams.lanes", "waiting", 100.0)) for _ in range(3))


def test_a_metrics_port_in_use_is_named_with_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}.*DRIFTLOOP_METRICS_PORT"):
            serve_metrics(Settings(metrics_port=port))


def test_a_clock_that_is_put_back_silences_nothing() -> None:
    seldom = Seldom("aiokafka")
    assert seldom.filter(said("aiokafka", "away", 5000.0))
    assert seldom.filter(said("aiokafka", "away", 1000.0))
    assert not seldom.filter(said("aiokafka", "away", 1001.0))
