"""How good orders of candidates are: by request, counted into cells, and told of sums. Pure.

Of a request whose candidates have labels y, by falling score at places 1, 2, ..., DCG@k is the sum
of y / log2(1 + place) over the first k places, and nDCG@k is that over what the best order has
(Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20, 2002).
The reciprocal rank is 1 / place of the first candidate with a label above 0; the hit rate at k is
the share of requests with one among the first k. A request without any such label says nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.sums import RankSums

Floats = NDArray[np.float64]


class Places(NamedTuple):
    """Of each request, [n]; NaN of those without a label above 0."""

    ndcg: Floats
    mrr: Floats
    hit_rate: Floats


def ranks(scores: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]], top: int) -> Places:
    """Of scores and labels [n, most]; where labels are NaN there is no candidate.

    Candidates of one score are in the request's order.
    """
    present = ~np.isnan(labels)
    gains = np.where(present, labels, 0.0).astype(np.float64)
    order = np.argsort(np.where(present, -scores, np.inf), axis=1, kind="stable")
    placed = np.take_along_axis(gains, order, axis=1)
    best = -np.sort(-gains, axis=1)
    discounts = _discounts(labels.shape[1], top)
    relevant = placed > 0
    known = relevant.any(axis=1)
    with np.errstate(invalid="ignore"):
        ndcg = (placed @ discounts) / (best @ discounts)
    first = relevant.argmax(axis=1)
    return Places(
        ndcg,
        np.where(known, 1.0 / (1 + first), np.nan),
        np.where(known, (first < top).astype(np.float64), np.nan),
    )


def random_ranks(labels: NDArray[np.floating[Any]], top: int) -> Places:
    """What is expected of a random order of candidates with labels [n, most].

    The first of r relevant ones among n is at place p with probability C(n - p, r - 1) / C(n, r).
    """
    present = ~np.isnan(labels)
    gains = np.where(present, labels, 0.0).astype(np.float64)
    count, relevant = present.sum(axis=1), (gains > 0).sum(axis=1)
    discounts = _discounts(labels.shape[1], top)
    best = -np.sort(-gains, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sum_of_places = np.cumsum(discounts)[np.maximum(count, 1) - 1]
        ndcg = gains.sum(axis=1) / count * sum_of_places / (best @ discounts)
    reciprocal, hits = np.full((2, len(labels)), np.nan)
    for row in np.flatnonzero(relevant):
        none = 1.0  # the chance that no relevant one is before a place
        reciprocal[row] = hits[row] = 0.0
        for place in range(1, int(count[row] - relevant[row]) + 2):
            here = none * relevant[row] / (count[row] - place + 1)
            reciprocal[row] += here / place
            hits[row] += here if place <= top else 0.0
            none -= here
    return Places(ndcg, reciprocal, hits)


def _discounts(most: int, top: int) -> Floats:
    """What a place counts, [most]."""
    found: Floats = np.where(np.arange(most) < top, 1.0 / np.log2(np.arange(2, most + 2)), 0.0)
    return found


def count_ranks(sums: RankSums, found: Places, weights: NDArray[np.int64]) -> None:
    """Add requests, each so many times."""
    known = np.isfinite(found.ndcg)
    weights = weights[known]
    sums.requests += int(weights.sum())
    sums.ndcg += float(found.ndcg[known] @ weights)
    sums.reciprocal += float(found.mrr[known] @ weights)
    sums.hits += round(float(found.hit_rate[known] @ weights))


def both(one: RankSums, other: RankSums) -> RankSums:
    """Both."""
    return RankSums(
        one.requests + other.requests,
        one.ndcg + other.ndcg,
        one.reciprocal + other.reciprocal,
        one.hits + other.hits,
    )


def rank_measures(sums: RankSums, events: int) -> dict[str, float]:
    """What sums come to, by name; `chosen` is the share of requests that have a label above 0."""
    if not sums.requests:
        return {"chosen": 0.0}
    return {
        "ndcg": sums.ndcg / sums.requests,
        "mrr": sums.reciprocal / sums.requests,
        "hit_rate": sums.hits / sums.requests,
        "chosen": sums.requests / events,
    }
