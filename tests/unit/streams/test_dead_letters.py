"""A dead letter holds the record and its cause, bounded; the topic may hold anything."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from streams.dead_letters import BEGINNING, WHOLE, DeadLetter, dead_letter, parse
from streams.errors import BadRecord

OURS = ("cause", "detail", "topic", "partition", "offset", "timestamp")


def record(
    value: bytes | None = b"{bad",
    *headers: tuple[str, bytes | None],
    key: bytes | None = b"ann",
    offset: int = 7,
    topic: str = "orders.events",
) -> Any:
    return ConsumerRecord(
        topic, 2, offset, 1_700_000_000_123, 0, key, value, None, 0, 0, tuple(headers)
    )


def again(
    value: bytes | None = b"{bad", *headers: tuple[str, bytes | None], **more: Any
) -> DeadLetter:
    """What is read back of a record that was set aside."""
    key, value, written = dead_letter(record(value, *headers, **more), BadRecord("malformed", "x"))
    [letter], others = parse([record(value, *written, key=key, topic="orders.dead-letters")])
    assert others == 0
    return letter


def test_a_bad_record_is_kept_with_its_cause_its_origin_and_its_own_headers() -> None:
    headers = [("traceparent", b"00-1"), ("traceparent", b"00-2"), ("empty", None)]
    letter = again(b"{bad", *headers)
    assert (letter.cause, letter.detail, letter.source) == (
        "malformed",
        "x",
        ("orders.events", 2, 7),
    )
    assert (letter.key, letter.value, letter.whole) == (b"ann", b"{bad", True)
    assert letter.headers == headers
    assert letter.written_at == 1_700_000_000.123
    assert letter.replay_headers()[:3] == headers


def test_a_record_that_is_too_large_keeps_its_beginning_its_size_and_its_digest() -> None:
    value = bytes(range(256)) * 4096 * 40
    key, kept, headers = dead_letter(record(value, key=b"k" * 100_000), BadRecord("invalid", "x"))
    named = dict(headers)
    assert (kept, key) == (value[:BEGINNING], b"k" * 4096)
    assert named["size"] == b"%d" % len(value)
    assert named["sha256"] == hashlib.sha256(value).hexdigest().encode()
    letter = again(value)
    assert (letter.size, letter.whole) == (len(value), False)
    assert again(value[:WHOLE]).whole
    assert not again(key=b"k" * 5000).whole


def test_headers_without_end_are_bounded() -> None:
    many = [(f"h{i}", b"x") for i in range(1000)]
    assert len(again(b"{", *many).headers) == 32
    _, _, headers = dead_letter(record(b"{", *many), BadRecord("malformed", "x"))
    assert dict(headers)["headers-dropped"] == b"968"
    assert again(b"{", ("large", bytes(1 << 20))).headers == []


@pytest.mark.parametrize("attempt", [None, b"x", b"-1", b"7", "\u0663".encode(), b"9" * 5000])
def test_a_header_of_somebody_elses_is_no_attempt_of_ours(attempt: bytes | None) -> None:
    letter = again(b"{", ("attempt", attempt), ("cause", b"mine"), ("offset", b"x"))
    assert (letter.attempts, letter.cause, letter.source[2]) == (0, "malformed", 7)
    assert ("attempt", attempt) in letter.headers


def test_a_replay_is_counted() -> None:
    letter = again(b"{")
    for attempt in (1, 2, 3):
        headers = letter.replay_headers()
        assert dict(headers)["replayed-from"] == b"2-7"
        letter = again(b"{", *headers)
        assert letter.attempts == attempt
        assert letter.headers == []


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("cause", None),),
        (("cause", b"time"),),
        (("cause", b"time"), ("topic", b"t"), ("partition", b"x"), ("offset", b"1")),
        (("cause", b"time"), ("topic", b"t"), ("partition", b"1"), ("offset", b"-1")),
        (("cause", b"time"), ("topic", b"t"), ("partition", b"1"), ("offset", None)),
        (("cause", b"time"), ("topic", None), ("partition", b"1"), ("offset", b"1")),
        (("cause", b"replayed"),),
        (("cause", b"\xff\xfe"), ("topic", b"\xff")),
    ],
)
def test_records_that_are_no_dead_letters_are_counted_and_passed_over(headers: Any) -> None:
    good = dead_letter(record(), BadRecord("malformed", "x"))
    topic = "orders.dead-letters"
    letters, others = parse(
        [record(good[1], *good[2], topic=topic), record(b"?", *headers, offset=8, topic=topic)]
    )
    assert ([letter.cause for letter in letters], others) == (["malformed"], 1)


def test_what_was_replayed_is_marked() -> None:
    _, value, headers = dead_letter(record(), BadRecord("malformed", "x"))
    letter = again()
    note = record(None, *letter.replay_note(), offset=8)
    [marked], others = parse([record(value, *headers), note])
    assert (marked.replayed, others) == (True, 0)
