"""A bad record becomes a rejection with its cause; the rest of its batch is decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from aiokafka import ConsumerRecord

from streams.scoring.decoding import Decoder
from streams.spec import Column
from tests.unit.pipelines import declare, order

NOW = 1_700_000_000.0


def record(value: Any, offset: int = 0, key: bytes | None = b"ann") -> ConsumerRecord[Any, Any]:
    raw = value if value is None or isinstance(value, bytes) else orjson.dumps(value)
    written = int(NOW * 1000)
    return ConsumerRecord("orders.events", 0, offset, written, 0, key, raw, None, 0, 0, ())


def decode(*values: Any, **key: Any) -> Any:
    decoder = Decoder(declare())
    return decoder.decode([record(value, i, **key) for i, value in enumerate(values)])


GOOD = order(1, NOW - 60)


@pytest.mark.parametrize(
    ("bad", "cause", "detail"),
    [
        (b"{not json", "malformed", "Invalid JSON"),
        (b"", "empty", "no value"),
        (None, "empty", "no value"),
        (b'{"a":1},{"b":2}', "malformed", "trailing"),
        (b"[]", "invalid", "Input should be an object"),
        ({**GOOD, "amount": "lots"}, "invalid", "amount: Input should be a valid number"),
        ({k: v for k, v in GOOD.items() if k != "shopper"}, "invalid", "shopper: Field required"),
        (orjson.dumps(GOOD).replace(b"10.0", b"NaN"), "not-finite", "amount: nan"),
        (orjson.dumps(GOOD).replace(b"10.0", b"-Infinity"), "not-finite", "amount: -inf"),
        ({**GOOD, "at": -1e12}, "time", "out of range"),
        ({**GOOD, "at": 1.7e10}, "time", "out of range"),
        ({**GOOD, "at": NOW + 200_000}, "time", "out of range"),
        ({**GOOD, "at": 1e300}, "time", "out of range"),
    ],
)
def test_one_bad_record_is_rejected_alone(bad: Any, cause: str, detail: str) -> None:
    # the optional basket has no replacement, so it is given
    good = [{**order(i, NOW - i), "basket": 1} for i in range(3)]
    if isinstance(bad, dict):
        bad = {**bad, "basket": 1}
    elif isinstance(bad, bytes) and bad.startswith(b'{"order'):
        bad = bad[:-1] + b',"basket":1}'
    decoded = decode(good[0], bad, *good[1:])
    assert decoded.ids == ["o0", "o1", "o2"]
    assert [r.offset for r in decoded.records] == [0, 2, 3]
    [(rejected, error)] = decoded.rejected
    assert rejected.offset == 1
    assert error.cause == cause
    assert detail in error.detail


def test_a_record_without_key_is_rejected() -> None:
    decoded = decode(GOOD, key=None)
    assert decoded.rejected[0][1].cause == "missing-key"
    assert "key it by shopper" in decoded.rejected[0][1].detail


def test_two_records_cannot_pass_as_one_and_one_as_two() -> None:
    first = b'{"order_id": "a", "shopper": "}'
    second = b'{", "amount": 1, "at": 1.7e9, "basket": 1}'
    double = orjson.dumps({**GOOD, "basket": 1})
    decoded = decode(first, second, double + b"," + double)
    assert decoded.ids == []
    assert [error.cause for _, error in decoded.rejected] == ["malformed"] * 3


def test_cleaning_fills_clips_and_ignores_what_it_does_not_know() -> None:
    decoded = decode({**GOOD, "amount": 5000, "basket": 2, "colour": "red"})
    assert decoded.columns["amount"].tolist() == [1000.0]
    assert decoded.columns["channel"].tolist() == ["web"]
    assert decoded.times.tolist() == [NOW - 60]
    assert decoded.rejected == []


def test_null_without_replacement_is_rejected_alone_where_a_feature_reads_it() -> None:
    values = [GOOD, {**GOOD, "basket": 3}]
    records = [record(value, i) for i, value in enumerate(values)]
    pipeline = declare(features=[Column("amount"), Column("basket")])
    decoded = Decoder(pipeline).decode(records)
    assert [error.cause for _, error in decoded.rejected] == ["missing"]
    assert decoded.columns["basket"].tolist() == [3.0]
    assert decode(*values).rejected == []


def test_a_megabyte_of_unknown_field_is_fine() -> None:
    decoded = decode({**GOOD, "basket": 1, "note": "x" * 1_000_000})
    assert decoded.ids == ["o1"]


def test_hashes_tell_ids_apart_and_repeat() -> None:
    decoded = decode(*({**order(i, NOW - 1), "basket": 1} for i in range(1000)))
    hashes = decoded.hashes()
    assert hashes.dtype == np.uint64
    assert len(set(hashes.tolist())) == 1000
    assert (hashes == decoded.hashes()).all()
