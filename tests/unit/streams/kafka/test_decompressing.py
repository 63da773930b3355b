"""A batch that is huge once decompressed costs little memory, and its large records are told."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from streams.dead_letters import BEGINNING, dead_letter
from streams.errors import BadRecord
from streams.kafka import workarounds
from tests.unit.streams.test_dead_letters import record

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@pytest.fixture(autouse=True)
def applied() -> None:
    workarounds.apply()


def batch(codec: str, *values: bytes | None) -> bytes:
    builder = DefaultRecordBatchBuilder(2, CODECS[codec], 0, -1, -1, -1, 1 << 40)
    for offset, value in enumerate(values):
        assert builder.append(offset, 1000 + offset, b"k%d" % offset, value, [("h", b"x")])
    return bytes(builder.build())


def read(data: bytes) -> list[Any]:
    return list(DefaultRecordBatch(data))


@pytest.mark.parametrize("codec", CODECS)
def test_an_ordinary_batch_is_as_it_was_sent(codec: str) -> None:
    values = [b"", None, b"small", bytes(500_000), b"x" * 1_000_000]
    found = read(batch(codec, *values))
    assert [one.value for one in found] == values
    assert [one.headers for one in found] == [[("h", b"x")]] * 5


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_the_large_records_of_a_bomb_keep_their_beginning(codec: str) -> None:
    large = b"{" + bytes(1_900_000)
    values = [b"first", *[large] * 60, None, b"last", bytes(40 << 20)]
    data = batch(codec, *values)
    tracemalloc.start()
    found = read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20
    assert [one.key for one in found] == [b"k%d" % i for i in range(64)]
    assert [one.timestamp for one in found] == [1000 + i for i in range(64)]
    assert [one.value for one in found[:1] + found[61:63]] == [b"first", None, b"last"]
    assert found[0].headers == [("h", b"x")]
    assert found[1].value == large[:BEGINNING]
    assert dict(found[1].headers) == {
        "driftloop.size": b"1900001",
        "driftloop.sha256": hashlib.sha256(large).hexdigest().encode(),
    }
    _, value, headers = dead_letter(
        record(found[1].value, *found[1].headers), BadRecord("too-large", "x")
    )
    assert value == large[:BEGINNING]
    assert dict(headers)["size"] == b"1900001"


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_a_batch_that_is_cut_off_is_an_error(codec: str) -> None:
    data = batch(codec, *[bytes(2_000_000)] * 40)
    with pytest.raises(Exception, match=r"."):
        read(data[: len(data) // 2])
