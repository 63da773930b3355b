"""A version's reference: how its columns were distributed where it was trained and judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.distributions import Ints, Reference, ReferenceColumn, bins_each, watched
from workers.evaluation.drift import calibrate

Values = NDArray[np.float32]


class Seen(NamedTuple):
    """Examples of a slice."""

    event_time: NDArray[np.float64]
    """[n] seconds since 1970."""
    vectors: NDArray[np.float32]
    """[n, features]"""
    scores: NDArray[Any]
    """[n, outputs] of the version that the reference is of."""


def reference_of(
    names: list[str],
    trained: Seen,
    held_out: Seen,
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
    features, most = len(columns) - outputs, bins_each(len(columns))
    rows, bucket_of = _whole_buckets(trained.event_time, span)
    later, later_buckets = _whole_buckets(held_out.event_time, span)
    buckets = int(bucket_of.max(initial=-1)) + 1
    by_bucket, summed, edges = list[Ints](), list[Ints](), list[Values]()
    seen = list[Values]()
    for number, name in enumerate(columns):
        score = number - features
        if score < 0:
            values = of_column = trained.vectors[rows, number]
        else:
            values = trained.scores[rows, score].astype(np.float32)
            of_column = held_out.scores[later, score].astype(np.float32)
        edges.append(_edges(of_column, most, (filled or {}).get(name)))
        by_bucket.append(_counts(values, bucket_of, edges[-1], buckets))
        summed.append(
            by_bucket[-1].sum(axis=0) if score < 0 else _counts(of_column, None, edges[-1], 1)[0]
        )
        seen.append(of_column)
    spreads, levels = calibrate(by_bucket, seed)
    return Reference(
        span=span,
        buckets=buckets if levels else 0,
        events=round(len(rows) / max(1, buckets), 1),
        columns={
            name: ReferenceColumn(
                edges=[_short(edge) for edge in edges[number]],
                counts=summed[number].tolist(),
                spread=[float(f"{one:.4g}") for one in spreads[number]],
                low=_short(seen[number].min()),
                high=_short(seen[number].max()),
                mean=float(f"{seen[number].mean(dtype=np.float64):.6g}"),
                buckets=buckets if number < features else int(later_buckets.max(initial=0)) + 1,
                filled=(filled or {}).get(name),
            )
            for number, name in enumerate(columns)
        },
        levels={rate: round(level, 3) for rate, level in levels.items()},
    )


def _whole_buckets(times: NDArray[np.float64], span: int) -> tuple[Ints, Ints]:
    """The rows that lie in whole buckets, and which bucket each is in, from 0 on.

    The first and the last bucket may be cut, and are left out where there are others.
    """
    starts = np.floor_divide(times, span)
    inside = (starts > starts.min()) & (starts < starts.max())
    rows = np.flatnonzero(inside if inside.any() else np.ones(len(times), bool))
    return rows, np.unique(starts[rows], return_inverse=True)[1].astype(np.int64)


def _edges(values: Values, most: int, filled: float | None) -> Values:
    """Edges that part values [n] into about `most` bins of as many events each.

    Of few different values each has its own bin, and so has one that many events share. Below the
    least and above the largest value is a bin that is empty here.
    """
    below = np.float32(-np.inf)
    found, times = np.unique(values, return_counts=True)
    outer = [np.nextafter(found[0], below), found[-1]]
    if len(found) <= most:
        inner = list(found)
    else:
        shared = found[times * most >= len(values)]
        others = values[~np.isin(values, shared)]
        places = np.linspace(0, 1, max(2, most - len(shared)) + 1)[1:-1]
        inner = [*shared, *np.nextafter(shared, below)]
        inner += list(np.quantile(others, places, method="inverted_cdf")) if len(others) else []
    if filled is not None:
        inner += [np.float32(filled), np.nextafter(np.float32(filled), below)]
    return np.unique(np.array([*outer, *inner], np.float32))


def _counts(values: Values, bucket_of: Ints | None, edges: Values, buckets: int) -> Ints:
    """[buckets, bins]"""
    bins = len(edges) + 1
    places = np.searchsorted(edges, values).astype(np.int64)
    if bucket_of is not None:
        places += bucket_of * bins
    return np.bincount(places, minlength=buckets * bins).reshape(buckets, bins)


def _short(value: Any) -> float:
    """The shortest decimal that is this float32."""
    return float(str(np.float32(value)))
