"""The order in which a request's candidates are shown, and how probable each place was.

Candidates are ordered by falling score. A share of the requests shows them in random order
instead: which ones, and how, is drawn from the event's id, so that it is the same however often
the event is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streams.records import Prediction, Scored
from streams.scoring.decoded import Decoded
from streams.scoring.routing import places
from streams.scoring.served import ServedScores
from streams.spec import Candidates, Pipeline

_SALT = 0xCA2D


class Ranking(NamedTuple):
    """One request's candidates."""

    ids: list[str]
    """In the request's order."""
    scores: list[float]
    order: NDArray[np.int64]
    """By place, the candidate that is shown there."""
    chances: NDArray[np.float64]
    """By place, the probability that this candidate is there."""


def shown(prediction: Prediction, ranked: Ranking) -> Prediction:
    """With the candidates in the order in which they are shown."""
    order = ranked.order.tolist()
    return replace(
        prediction,
        score=[ranked.scores[i] for i in order],
        items=[ranked.ids[i] for i in order],
        propensities=ranked.chances.tolist(),
    )


def logged(scored: Scored, ranked: Ranking) -> Scored:
    """With the candidates in the request's order, and their places."""
    positions = np.argsort(ranked.order)
    return replace(
        scored,
        score=ranked.scores,
        items=ranked.ids,
        positions=positions.tolist(),
        propensities=ranked.chances[positions].tolist(),
    )


def rankings(pipeline: Pipeline, decoded: Decoded, served: ServedScores) -> list[Ranking] | None:
    """Each request's, [n]; None where the pipeline ranks nothing."""
    asked = pipeline.candidates
    if asked is None:
        return None
    return list(_each(asked, decoded.ids, decoded.columns[asked.field], served.scores))


def _each(
    asked: Candidates,
    event_ids: Sequence[str],
    values: NDArray[np.object_],
    scores: NDArray[np.float32],
) -> Iterator[Ranking]:
    encoded = [event_id.encode() for event_id in event_ids]
    explored = places(encoded, _SALT) < asked.explore
    for event_id, value, row, explores in zip(encoded, values, scores, explored, strict=True):
        count = len(value)
        best = np.argsort(-row[:count], kind="stable")
        order = best
        if explores:
            order = np.random.default_rng(xxh3_64_intdigest(event_id)).permutation(count)
        chances = np.full(count, asked.explore / count) + (1 - asked.explore) * (order == best)
        yield Ranking(asked.ids(value), row[:count].tolist(), order, chances)
