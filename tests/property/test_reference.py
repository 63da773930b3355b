"""Bins of any column: rising, all of it in them, and nothing beyond its own range."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streams.distributions import Binning
from tests.reference.served import DAY
from workers.evaluation.reference import SliceColumns, reference_of

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
FEW = st.sampled_from([0.0, -0.0, 1.0, 7.5, -3e38, 3e38, 1e-45])


@given(arrays(np.float32, st.integers(1, 200), elements=st.one_of(FINITE, FEW)))
def test_a_column_is_counted_in_bins_of_its_own(values: np.ndarray) -> None:
    count = len(values)
    times = np.linspace(0, 10 * DAY, count, endpoint=False)
    seen = SliceColumns(
        (0, 10 * DAY), times, values[:, None], np.full((count, 1), 0.5), np.arange(count) % 3
    )
    reference = reference_of(["a"], seen, seen, DAY, {"a": 7.5})
    column = reference.columns["a"]
    edges = np.array(column.edges, np.float32)
    assert (np.diff(edges) > 0).all()
    assert sum(column.counts) == count
    assert column.counts[-1] == 0
    assert column.low == values.min()
    assert column.high == values.max()
    [counts, _] = Binning(reference).counts(np.hstack([seen.vectors, seen.scores.astype("f4")]))
    assert counts.tolist() == column.counts
