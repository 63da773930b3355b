"""What is there of history already is passed over; another history is refused."""

from __future__ import annotations

import pytest
from aiokafka import ConsumerRecord

from streams.errors import ConfigurationError
from streams.kafka.history import HeldHistory
from streams.ports.batches import OutputRecord


def records(first: int, end: int) -> list[OutputRecord]:
    return [(b"k", b"%d" % at, []) for at in range(first, end)]


def kept(end: int, value: bytes) -> HeldHistory:
    last = ConsumerRecord("orders.events", 0, end - 1, 0, 0, b"k", value, None, 1, len(value), ())
    return HeldHistory(end, last)


def test_what_is_there_is_passed_over() -> None:
    found = kept(10, b"9")
    assert [found.of(0, records(0, 8)), found.of(8, records(8, 20))] == [8, 2]
    assert found.of(20, records(20, 30)) == 0
    assert HeldHistory(10, None).of(5, records(5, 15)) == 5, "retention has deleted the last"


def test_another_history_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="another history at 0-9"):
        kept(10, b"ten").of(0, records(0, 20))
