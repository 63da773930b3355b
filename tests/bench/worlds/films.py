"""Films ranked for each user, all that he has not rated: by popularity, and by what goes together.

SAR as Microsoft's Recommenders describe it: a user's affinity to films (stars, halved every 30
days) times how much two films share their users (Jaccard). Relevant is what he rated in the test.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from tests.bench.worlds.stream import Figures, Floats, Stream, stream

TOP = 10
TRAIN = 0.75
HALVED = 30 * 86_400.0
PRIOR = 20.0
"""Ratings that the general rate counts for."""

Ints = NDArray[np.int64]


class Ratings(NamedTuple):
    """By event time; arrays [ratings]."""

    user: Ints
    film: Ints
    at: Floats
    liked: Floats


Score = Callable[[Ratings, NDArray[np.bool_]], Floats]
"""Given what is learnt from, scores [users, films]."""


def measure() -> Figures:
    """nDCG@10 of both splits, and how well smoothed rates say what will be liked."""
    found = stream("films")
    known = _ratings(found)
    by_time = np.arange(len(known.user)) < TRAIN * len(known.user)
    splits = (("in time order", by_time), ("at random by user", random_split(known.user)))
    figures: Figures = []
    for split, train in splits:
        for name, score in (("popularity", popular), ("SAR", together)):
            quality, new = ranked(known, train, score)
            figures.append((f"nDCG@{TOP}, split {split}, {name}", f"{quality:.3f}"))
        figures.append((f"test users without training, split {split}", f"{new:.0%}"))
    return [*figures, ("liked: AUC of users' and films' smoothed rates", _rates(found, known))]


def ratings() -> Ratings:
    """All of them."""
    return _ratings(stream("films"))


def _ratings(found: Stream) -> Ratings:
    users, films = (
        np.unique(names, return_inverse=True)[1].astype(np.int64)
        for names in zip(*((one.key, one.fields["film"]) for one in found.happenings), strict=True)
    )
    return Ratings(users, films, found.at, found.label)


def random_split(users: Ints) -> NDArray[np.bool_]:
    """Three quarters of each user's ratings, drawn at random."""
    draw = np.random.default_rng(42).random(len(users))
    order = np.lexsort((draw, users))
    begins = np.searchsorted(users[order], np.arange(users.max() + 2))
    train = np.zeros(len(users), bool)
    for first, last in pairwise(begins.tolist()):
        train[order[first : first + round(TRAIN * (last - first))]] = True
    return train


def _seen(ratings: Ratings, rows: NDArray[np.bool_]) -> Floats:
    table = np.zeros((ratings.user.max() + 1, ratings.film.max() + 1))
    table[ratings.user[rows], ratings.film[rows]] = 1
    return table


def popular(ratings: Ratings, train: NDArray[np.bool_]) -> Floats:
    """Scores [users, films]: how many rated a film."""
    seen = _seen(ratings, train)
    return np.broadcast_to(seen.sum(axis=0), seen.shape)


def together(ratings: Ratings, train: NDArray[np.bool_]) -> Floats:
    """Scores [users, films] by SAR; a user without ratings gets what is popular."""
    seen, affinity = (
        _seen(ratings, train),
        np.zeros((ratings.user.max() + 1, ratings.film.max() + 1)),
    )
    age = ratings.at[train].max() - ratings.at[train]
    np.add.at(affinity, (ratings.user[train], ratings.film[train]), 0.5 ** (age / HALVED))
    both = seen.T @ seen
    count = np.diag(both)
    either = count[:, None] + count[None, :] - both
    alike = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return affinity @ alike + 1e-9 * count


def ranked(ratings: Ratings, train: NDArray[np.bool_], score: Score) -> tuple[float, float]:
    """nDCG@10 of users with ratings in the test, and the share of them without any in training."""
    seen, wanted = _seen(ratings, train), _seen(ratings, ~train)
    scores = np.where(seen > 0, -np.inf, score(ratings, train))
    tested = wanted.sum(axis=1) > 0
    best = np.argsort(-scores[tested], axis=1, kind="stable")[:, :TOP]
    discount = 1 / np.log2(np.arange(2, TOP + 2))
    gained = np.take_along_axis(wanted[tested], best, axis=1) @ discount[: best.shape[1]]
    ideal = np.cumsum(discount)[np.minimum(wanted[tested].sum(axis=1), TOP).astype(int) - 1]
    new = (seen[tested].sum(axis=1) == 0).mean()
    return float((gained / ideal).mean()), float(new)


def _rates(found: Stream, ratings: Ratings) -> str:
    """From each label only what was known when the event came; the first tenth only teaches."""
    sums = [np.zeros((n.max() + 1, 2)) for n in (ratings.user, ratings.film)]
    total, taught, scores = np.array([0.0, 0.0]), 0, np.zeros(len(found.at))
    order = np.argsort(found.known, kind="stable")
    for number, at in enumerate(found.at):
        while found.known[order[taught]] <= at:
            label = order[taught]
            one = np.array([ratings.liked[label], 1.0])
            sums[0][ratings.user[label]] += one
            sums[1][ratings.film[label]] += one
            total += one
            taught += 1
        general = (total[0] + 1) / (total[1] + 2)
        places = (ratings.user[number], ratings.film[number])
        rates = [
            (table[place, 0] + PRIOR * general) / (table[place, 1] + PRIOR)
            for table, place in zip(sums, places, strict=True)
        ]
        scores[number] = sum(np.log(rate / (1 - rate)) for rate in rates)
    first = len(scores) // 10
    return f"{roc_auc_score(ratings.liked[first:], scores[first:]):.3f}"
