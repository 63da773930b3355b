"""Windows and columns of examples."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from streams.errors import ConfigurationError
from streams.records import encode
from tests.synthetic import made
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
    found = columns([first, *rest, corrected], 4, 1)
    assert len(found) == len(rest) + 1
    row = found.event_id.tolist().index(first.event_id)
    assert found.label[row] == corrected.label
    assert found.origin[row] == "correction"


def test_the_order_of_arrival_does_not_matter() -> None:
    examples = made(0.2)
    shuffled = [examples[i] for i in np.random.default_rng(0).permutation(len(examples))]
    one, two = columns(examples, 4, 1), columns(shuffled, 4, 1)
    for name in one.__dataclass_fields__:
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert (np.diff(one.event_time) >= 0).all()


def test_vectors_of_other_features_are_left_out() -> None:
    examples = made(0.1)
    old = msgspec.structs.replace(examples[0], vector=bytes(8))
    assert len(columns([old, *examples[1:]], 4, 1)) == len(examples) - 1


def test_no_examples_are_columns_of_the_right_shape() -> None:
    found = columns([], 4, 3)
    assert found.vector.shape == (0, 4)
    assert found.score.shape == (0, 3)


def test_records_are_decoded_at_once() -> None:
    examples = made(0.1)
    records = [SimpleNamespace(value=encode(example)) for example in examples]
    assert decode(records) == examples
