"""Windows and columns of examples."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import structlog

from streams.errors import ConfigurationError
from streams.records import encode
from streams.spec.layout import pack
from tests.synthetic import made, pipeline
from workers.examples.reading import OffsetRanges, columns, decode, parse_ranges


def test_a_window_is_written_and_read_back() -> None:
    window = OffsetRanges({0: (100, 2000), 3: (0, 7)})
    offsets = window.offsets("P.examples")
    assert offsets == {"P.examples-0": [100, 2000], "P.examples-3": [0, 7]}
    assert OffsetRanges.from_offsets("P.examples", offsets) == window
    assert window.size == 1907


@pytest.mark.parametrize(
    "text", ["P.examples-0:100-2000, P.examples-1:90-1800", "0:100-2000,1:90-1800"]
)
def test_the_topic_may_be_left_out(text: str) -> None:
    assert parse_ranges("P.examples", text) == OffsetRanges({0: (100, 2000), 1: (90, 1800)})


@pytest.mark.parametrize("text", ["", "x", "0:5", "0:9-5", "Q.examples-0:1-2", "0:1-2,0:3-4"])
def test_what_is_no_window_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write P\.examples-0:100-2000"):
        parse_ranges("P.examples", text)


def test_a_later_record_replaces_an_earlier_one() -> None:
    first, *rest = made(0.1)
    corrected = msgspec.structs.replace(first, label=1 - first.label, origin="correction")
    found = columns([first, *rest, corrected], pipeline)
    assert len(found) == len(rest) + 1
    row = found.event_id.tolist().index(first.event_id)
    assert found.label[row] == corrected.label
    assert found.origin[row] == "correction"


def test_the_order_of_arrival_does_not_matter() -> None:
    examples = made(0.2)
    shuffled = [examples[i] for i in np.random.default_rng(0).permutation(len(examples))]
    one, two = columns(examples, pipeline), columns(shuffled, pipeline)
    for name in one.__dataclass_fields__:
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert (np.diff(one.event_time) >= 0).all()


def test_vectors_of_other_features_are_left_out() -> None:
    examples = made(0.1)
    old = msgspec.structs.replace(examples[0], vector=bytes(8))
    assert len(columns([old, *examples[1:]], pipeline)) == len(examples) - 1


def test_no_examples_are_columns_of_the_right_shape() -> None:
    found = columns([], pipeline)
    assert found.vector.shape == (0, 4)
    assert found.score.shape == (0, 1)


def records(*values: bytes | None) -> list[Any]:
    return [
        SimpleNamespace(topic="P.examples", partition=0, offset=offset, value=value)
        for offset, value in enumerate(values)
    ]


def test_records_are_decoded_at_once() -> None:
    examples = made(0.1)
    assert decode(records(*map(encode, examples))) == examples


def test_examples_of_another_meaning_are_not_mixed_in() -> None:
    examples = made(0.1)
    ours = [msgspec.structs.replace(one, schema=pipeline.schema_hash) for one in examples[:-1]]
    other = msgspec.structs.replace(examples[-1], schema="0123456789abcdef")
    short = msgspec.structs.replace(examples[-1], schema=pipeline.schema_hash, vector=b"123")
    with structlog.testing.capture_logs() as lines:
        assert len(columns([*ours, other, short], pipeline)) == len(ours)
    assert [line["examples"] for line in lines] == [2]


def test_an_id_of_two_keys_is_two_examples() -> None:
    one = made(0.1)[0]
    assert len(columns([one, msgspec.structs.replace(one, key="another")], pipeline)) == 2


def test_tombstones_and_records_that_are_no_examples_are_passed_over_and_counted() -> None:
    first, second, *_ = made(0.1)
    bad = [
        b"{",
        b"",
        b"[]",
        b"[" * 100_000,
        b"1,2",
        encode(msgspec.structs.replace(first, event_time=-1.0)),
        encode(msgspec.structs.replace(first, event_time=1e300)),
        encode(first).replace(b'"label":', b'"label":null,"was":'),
    ]
    given = records(encode(first), None, *bad, encode(second), None)
    with structlog.testing.capture_logs() as lines:
        assert decode(given) == [first, second]
    assert [(line["records"], line["first"]) for line in lines] == [(len(bad), 2)]
    with structlog.testing.capture_logs() as lines:
        assert decode(records(None, None)) == []
    assert lines == []


def test_a_vector_that_is_not_finite_is_left_out() -> None:
    first, second, *_ = made(0.1)
    infinite = pack(np.array([[1, np.inf, 1, 1]], np.float32))[0]
    found = columns([msgspec.structs.replace(first, vector=infinite), second], pipeline)
    assert found.event_id.tolist() == [second.event_id]
