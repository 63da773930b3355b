"""The layout of a row: what is served is what is logged, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.spec.layout import Layout, Tensor, features_of, pack, tensors_of

IMAGE, TEXT = Tensor("image", "|u1", (3, 5), "image"), Tensor("text", "<i4", (4,), "indices", 9)
MIXED = Layout.of(2, [IMAGE, TEXT])


def drawn(layout: Layout, count: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    inputs = {
        one.name: random.integers(0, 9, (count, *one.shape))
        for one in layout.tensors
        if one.name != "features"
    }
    features = random.normal(size=(count, layout.features)).astype(np.float32)
    return layout.rows(features, inputs)


def test_a_tabular_row_is_its_features_alone() -> None:
    layout = Layout.of(3)
    rows = drawn(layout, 5)
    assert layout.tabular
    assert rows.dtype == np.float32
    assert rows.shape == (5, 3)
    assert layout.pack(rows) == pack(rows)
    assert layout.size == 12
    assert features_of(rows) is rows
    assert list(tensors_of(rows)) == ["features"]


@given(st.integers(0, 6), st.integers(0, 5), st.integers(0, 99))
def test_a_row_comes_back_as_it_was(features: int, count: int, seed: int) -> None:
    layout = Layout.of(features, [IMAGE, TEXT])
    rows = drawn(layout, count, seed)
    packed = layout.pack(rows)
    assert [len(one) for one in packed] == [layout.size] * count
    assert layout.size == 4 * features + 15 + 16
    back = layout.unpack(packed)
    assert back.dtype == layout.dtype
    assert (back == rows).all()
    for name, tensor in tensors_of(back).items():
        assert tensor.flags.c_contiguous
        assert np.array_equal(tensor, rows[name])


def test_rows_are_chosen_and_joined_whole() -> None:
    rows = drawn(MIXED, 6)
    again = np.concatenate([rows[:2], rows[[4, 5]], rows[np.array([False] * 3 + [True] * 3)]])
    assert MIXED.pack(again)[3] == MIXED.pack(rows)[5]
    assert features_of(again).shape == (7, 2)


def test_a_row_without_features_has_none() -> None:
    layout = Layout.of(0, [TEXT])
    assert features_of(layout.zeros(3)).shape == (3, 0)
    assert layout.features == 0
    assert not layout.tabular


def test_rows_of_another_size_are_not_taken() -> None:
    with pytest.raises(ValueError, match="buffer size"):
        MIXED.unpack([b"123"])
