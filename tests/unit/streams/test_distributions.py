"""Columns counted in the bins of a reference."""

from __future__ import annotations

import msgspec
import numpy as np

from streams.distributions import (
    MOST_BINS,
    MOST_COLUMNS,
    Binning,
    Distribution,
    Reference,
    ReferenceColumn,
    bins_each,
    watched,
)
from streams.records import Manifest, decoder, encode
from tests.unit.pipelines import declare
from workers.releases.manifests import blank


def column(*edges: float) -> ReferenceColumn:
    """Of values between -1 and 3."""
    return ReferenceColumn([*edges], [0] * (len(edges) + 1), -1.0, 3.0, 0.0)


REFERENCE = Reference(
    86_400,
    9,
    100.0,
    {"amount": column(0, 1, 2), "channel=web": column(0.1), "score": column(0.25, 0.5)},
    {0.01: 4.5, 0.1: 3.5},
)


def test_values_are_counted_as_they_lie_between_the_edges() -> None:
    vectors = np.array([[0, 0.1], [0.5, 0.2], [1, -2], [9, 0.1]], np.float32)
    scores = np.array([[0.5], [0.6], [0.1], [0.25]])
    cell, binning = Distribution(0.0, 86_400.0, 1), Binning(REFERENCE)
    for rows in ([0], [1, 2, 3]):
        binning.add(cell, binning.columns(vectors[rows], scores[rows]))
    # an edge belongs to the bin below it: float32(0.1) is 0.1's
    assert cell.counts == [[1, 2, 0, 1], [3, 1], [2, 1, 1]]
    assert cell.outside == [1, 1, 0]
    assert np.allclose(cell.sums, [10.5, -1.6, 1.45])


def test_a_reference_comes_back_from_a_manifest_as_it_was() -> None:
    made = msgspec.structs.replace(blank(declare()), reference=REFERENCE, cause="drift")
    assert decoder(Manifest).decode(encode(made)) == made


def test_an_older_manifest_has_none() -> None:
    older = msgspec.json.decode(encode(blank(declare())))
    del older["reference"], older["cause"]
    assert decoder(Manifest).decode(encode(older)) == msgspec.structs.replace(
        blank(declare()), created_at=older["created_at"]
    )


def test_columns_and_bins_are_bounded() -> None:
    many = [f"f{number}" for number in range(5_000)]
    columns = watched(many, 3)
    assert len(columns) == MOST_COLUMNS
    assert columns[-3:] == ["score 0", "score 1", "score 2"]
    assert watched(["a"], 1) == ["a", "score"]
    assert [bins_each(number) for number in (1, 16, 500, 1024)] == [16, 16, 8, 4]
    assert bins_each(MOST_COLUMNS) * MOST_COLUMNS == MOST_BINS
