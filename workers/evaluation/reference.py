"""A version's reference: how its columns were distributed where it was trained and judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.distributions import Floats, Ints, Reference, ReferenceColumn, bins_each, watched
from streams.spec import Column, Pipeline
from workers.evaluation.calibration import calibrate, wander

_LATE = 0.05
"""A stream may begin so much of a bucket late, and the bucket is whole."""

Values = NDArray[np.float32]


class SliceColumns(NamedTuple):
    """Examples of a slice."""

    span: tuple[float, float]
    """The slice: event time [from, to)."""
    event_time: NDArray[np.float64]
    """[n] seconds since 1970."""
    vectors: NDArray[np.float32]
    """[n, features]"""
    scores: NDArray[Any]
    """[n, outputs] of the version that the reference is of."""
    keys: NDArray[Any]
    """[n] the entity of each."""


def fillers(pipeline: Pipeline) -> dict[str, float]:
    """What cleaning puts in place of a missing value, by the feature that is the field."""
    missing = pipeline.cleaning.missing
    return {
        feature.field: float(missing[feature.field])
        for feature in pipeline.computed
        if isinstance(feature, Column) and feature.field in missing
    }


def reference_of(
    names: list[str],
    trained: SliceColumns,
    held_out: SliceColumns,
    span: int,
    filled: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Reference:
    """The reference of features by these names as `trained` has them, and of scores on `held_out`.

    How far scores stray from one bucket of `span` seconds to another is taken from `trained`. Of
    both slices only the whole buckets count, where there are any. `filled` is what stands for a
    missing value, by feature.
    """
    outputs = trained.scores.shape[1]
    columns = watched(names, outputs)
    most = bins_each(len(columns))
    rows, bucket_of = _whole_buckets(trained, span)
    later, later_buckets = _whole_buckets(held_out, span)
    entities = np.unique(trained.keys[rows], return_inverse=True)[1].astype(np.int64)
    buckets = int(bucket_of.max(initial=0)) + 1
    made = list[_Column]()
    for number, name in enumerate(columns):
        score = number - len(columns) + outputs
        if score < 0:
            values = own = trained.vectors[rows, number]
        else:
            values = trained.scores[rows, score].astype(np.float32)
            own = held_out.scores[later, score].astype(np.float32)
        edges = _edges(own, most, (filled or {}).get(name))
        bins = _bins(values, edges)
        made.append(
            _Column(
                edges,
                own,
                _by_bucket(bins, bucket_of, len(edges), buckets),
                wander(bins, entities, len(edges)),
                buckets if score < 0 else int(later_buckets.max(initial=0)) + 1,
            )
        )
    calibration = calibrate([one.by_bucket for one in made], seed)
    known = zip(columns, made, calibration.spreads, calibration.usual, strict=True)
    return Reference(
        span=span,
        buckets=buckets,
        events=round(len(rows) / buckets, 1),
        columns={
            name: _reference_column(one, spread, usual, buckets, (filled or {}).get(name))
            for name, one, spread, usual in known
        },
        levels={rate: round(level, 3) for rate, level in calibration.levels.items()},
    )


class _Column(NamedTuple):
    edges: Values
    values: Values
    """Those that the reference is of."""
    by_bucket: Ints
    """[buckets, bins] of the training slice."""
    wander: Floats
    buckets: int
    """That `values` are of."""


def _reference_column(
    one: _Column, spread: Floats, usual: float, buckets: int, filled: float | None
) -> ReferenceColumn:
    of_buckets = np.square(spread)
    lasting = np.maximum(0.0, one.wander - of_buckets / buckets) if len(spread) else 0.0
    # an edge beyond which there were few entities, or none, tells less than the others
    lasting = np.maximum(lasting, np.median(lasting))
    # once for the entities as they were, and once for them as they will be
    strays = np.sqrt(of_buckets * (1 + 1 / one.buckets) + 2 * lasting)
    return ReferenceColumn(
        edges=[_short(edge) for edge in one.edges],
        counts=np.bincount(_bins(one.values, one.edges), minlength=len(one.edges) + 1).tolist(),
        low=_short(one.values.min()),
        high=_short(one.values.max()),
        mean=float(f"{one.values.mean(dtype=np.float64):.6g}"),
        spread=[float(f"{edge:.4g}") for edge in strays],
        usual=round(usual, 4),
        filled=filled,
    )


def _whole_buckets(seen: SliceColumns, span: int) -> tuple[Ints, Ints]:
    """The rows in buckets that lie within the slice, and which of them each is in, from 0 on.

    The bucket in which a stream begins is not whole. All rows as one bucket, where none is.
    """
    starts = np.floor_divide(seen.event_time, span) * span
    first = max(seen.span[0], float(seen.event_time.min()) - _LATE * span)
    inside = (starts >= first) & (starts + span <= seen.span[1])
    rows = np.flatnonzero(inside)
    if not len(rows):
        return np.arange(len(starts)), np.zeros(len(starts), np.int64)
    return rows, np.unique(starts[rows], return_inverse=True)[1].astype(np.int64)


def _edges(values: Values, most: int, filled: float | None) -> Values:
    """Edges that part values [n] into about `most` bins of as many events each.

    Of few different values each has its own bin, and so has one that many events share. Below the
    least and above the largest value is a bin that is empty here.
    """
    below = np.float32(-np.inf)
    found, times = np.unique(values, return_counts=True)
    with np.errstate(over="ignore"):  # nothing is below the least float
        outer = [np.nextafter(found[0], below), found[-1]]
    if len(found) <= most:
        inner = list(found)
    else:
        shared = found[times * most >= len(values)]
        others = values[~np.isin(values, shared)]
        places = np.linspace(0, 1, max(2, most - len(shared)) + 1)[1:-1]
        with np.errstate(over="ignore"):
            inner = [*shared, *np.nextafter(shared, below)]
        if len(others):
            parted = np.quantile(others, places, method="inverted_cdf")
            inner += [np.float32(f"{edge:.5g}") for edge in parted]  # short: the ledger holds them
    if filled is not None:
        inner += [np.float32(filled), np.nextafter(np.float32(filled), below)]
    edges = np.unique(np.array([*outer, *inner], np.float32))
    return edges[np.isfinite(edges)]


def _bins(values: Values, edges: Values) -> Ints:
    return np.searchsorted(edges, values).astype(np.int64)


def _by_bucket(bins: Ints, bucket_of: Ints, edges: int, buckets: int) -> Ints:
    """[buckets, bins]"""
    places = bucket_of * (edges + 1) + bins
    return np.bincount(places, minlength=buckets * (edges + 1)).reshape(buckets, edges + 1)


def _short(value: Any) -> float:
    """The shortest decimal that is this float32."""
    return float(str(np.float32(value)))
