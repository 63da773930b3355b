"""While a server is away each attempt is said, and once it is over, that too."""

from __future__ import annotations

import time

import pytest
import structlog

from streams.aio.retrying import until_available
from streams.errors import Unavailable


class Server:
    def __init__(self, failures: int) -> None:
        self._failures = failures

    async def ask(self) -> str:
        self._failures -= 1
        if self._failures >= 0:
            raise Unavailable("Redis", "far:6379", "DRIFTLOOP_REDIS", f"{self._failures} left")
        return "answer"


async def test_what_waited_says_when_it_goes_on() -> None:
    with structlog.testing.capture_logs() as said:
        assert await until_available("p", "fold", Server(2).ask) == "answer"
    assert [(one["event"], one["log_level"], one["stage"]) for one in said] == [
        ("waiting", "warning", "fold"),
        ("waiting", "warning", "fold"),
        ("no longer waiting", "info", "fold"),
    ]
    assert "(0 left)" in said[-1]["error"]


async def test_what_did_not_wait_says_nothing() -> None:
    with structlog.testing.capture_logs() as said:
        assert await until_available("p", "fold", Server(0).ask) == "answer"
    assert said == []


async def test_what_gives_up_leaves_the_error_to_its_caller() -> None:
    with structlog.testing.capture_logs() as said, pytest.raises(Unavailable):
        await until_available("p", "fold", Server(9).ask, deadline=time.monotonic())
    assert [one for one in said if one["log_level"] != "debug"] == []
