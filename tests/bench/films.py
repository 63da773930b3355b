"""Films ranked by the pipeline of the same name: `python -m tests.bench.films`.

nDCG@10 over all films that a user has not rated, relevant is what he rated in the test: three
quarters of the ratings to learn from, in time order and at random by user. The network is the
pipeline's, trained by its trainer on requests that are made of the ratings to learn from, and asked
as it is served, a hundred candidates at a time. Then how many requests the scoring code orders.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.pipelines.films import pipeline
from streams.spec.layout import Rows
from streams.testing import Rehearsal
from tests.bench.worlds.films import (
    TOP,
    TRAIN,
    Ratings,
    popular,
    random_split,
    ranked,
    ratings,
    together,
)
from tests.bench.worlds.stream import Floats, Ints
from workers.examples.reading import Examples
from workers.releases.onnx_files import run, session
from workers.training.epochs import How
from workers.training.fit import train
from workers.training.slices import Spans

MOST = pipeline.model.outputs
KNOWN = "SAR .382, NCF .396, BPR .442, BiVAE .475 (Microsoft's Recommenders, at random by user)"
ROUNDS = 14
"""Requests that are made of each user's ratings."""
SPANS = Spans((0.0, 1.0), (1.0, 2.0), (2.0, 3.0))


def main() -> None:
    """Print both tables."""
    found = ratings()
    by_time = np.arange(len(found.user)) < TRAIN * len(found.user)
    print(f"nDCG@{TOP}, all films; known: {KNOWN}")
    for split, learnt in (("in time order", by_time), ("at random", random_split(found.user))):
        for name, score in (("popularity", popular), ("SAR", together), ("pipeline", learn)):
            began = time.perf_counter()
            quality, _ = ranked(found, learnt, score)
            took = time.perf_counter() - began
            print(f"{split:14} {name:10} {quality:.3f}  ({took:.0f} s)", flush=True)
    asyncio.run(_throughput(found))


def learn(found: Ratings, learnt: NDArray[np.bool_]) -> Floats:
    """Scores [users, films] of the network, trained on some of the ratings."""
    random = np.random.default_rng(7)
    histories = _histories(found, learnt)
    made = [one for round_ in range(ROUNDS) for one in _requests(histories, found, random, round_)]
    candidate = train(pipeline, _examples(made), SPANS, How(threads=2))
    print({name: round(value, 3) for name, value in candidate.metrics.items()})
    return _all_films(candidate.onnx, histories, found)


def _histories(found: Ratings, learnt: NDArray[np.bool_]) -> list[Ints]:
    """Of each user the films that he rated, oldest first; their ids begin with 1."""
    order = np.flatnonzero(learnt)
    order = order[np.argsort(found.at[order], kind="stable")]
    return [1 + found.film[order[found.user[order] == one]] for one in range(found.user.max() + 1)]


Request = tuple[float, Ints, Ints, Floats]
"""Event time, the films seen, the candidates, and a label for each."""


def _requests(
    histories: list[Ints], found: Ratings, random: np.random.Generator, round_: int
) -> Iterator[Request]:
    """One request of each user: of what he rated some is to be found, the rest he has seen."""
    films = int(found.film.max()) + 1
    at = 0.9 * round_ / ROUNDS if round_ < ROUNDS - 2 else 1.0 + (round_ - ROUNDS + 2)
    for seen in histories:
        if len(seen) < 2:
            continue
        chosen = np.zeros(len(seen), bool)
        chosen[random.permutation(len(seen))[: min(20, max(1, len(seen) // 4))]] = True
        others = np.setdiff1d(random.permutation(films)[: 4 * MOST] + 1, seen)
        others = random.permutation(others)[: MOST - int(chosen.sum())]
        candidates = np.concatenate([seen[chosen], others])
        label = np.repeat([1.0, 0.0], [int(chosen.sum()), len(others)])
        yield at, seen[~chosen], candidates, label


def _rows(seen: list[Ints], candidates: list[Ints]) -> Rows:
    lists = np.empty(len(seen), object), np.empty(len(seen), object)
    for column, values in zip(lists, (seen, candidates), strict=True):
        column[:] = [value.tolist() for value in values]
    tensors, wrong = pipeline.read_inputs({"seen": lists[0], "films": lists[1]})
    assert not wrong, wrong
    return pipeline.layout.rows(np.empty((len(seen), 0), np.float32), tensors)


def _examples(made: list[Request]) -> Examples:
    count = len(made)
    label = np.full((count, MOST), np.nan, np.float32)
    for row, (_, _, _, labels) in enumerate(made):
        label[row, : len(labels)] = labels
    at = np.array([one[0] for one in made])
    return Examples(
        event_id=np.arange(count).astype(str).astype(object),
        key=np.arange(count).astype(str).astype(object),
        event_time=at,
        rows=_rows([one[1] for one in made], [one[2] for one in made]),
        label=label,
        labelled_at=at,
        version=np.zeros(count, np.int64),
        score=np.zeros((count, MOST), np.float32),
        origin=np.full(count, "feedback", object),
    )


def _all_films(onnx: bytes, histories: list[Ints], found: Ratings) -> Floats:
    """Logarithms of shares [users, films], a page at a time; film 1, on each page, joins them."""
    films, loaded = int(found.film.max()) + 1, session(onnx)
    scores = np.zeros((len(histories), films))
    for first in range(2, films + 1, MOST - 1):
        page = np.arange(first, min(first + MOST - 1, films + 1))
        page = np.concatenate([[1], page])
        shares = run(loaded, _rows(histories, [page] * len(histories)))[:, : len(page)]
        odds = np.log(np.maximum(shares, 1e-38).astype(np.float64))
        scores[:, page[1:] - 1] = odds[:, 1:] - odds[:, :1]
    return scores


async def _throughput(found: Ratings, requests: int = 4000, batch: int = 256) -> None:
    """Requests a second of a hundred candidates, from JSON to the encoded records, one process."""
    import torch

    assert pipeline.model.network is not None
    network = pipeline.model.network(0).eval()

    def score(rows: Any) -> NDArray[np.float32]:
        with torch.no_grad():
            seen = torch.from_numpy(rows["seen"].astype(np.int64))
            candidates = torch.from_numpy(np.ascontiguousarray(rows["candidates"]))
            return torch.softmax(network(seen, candidates), dim=1).numpy()

    random = np.random.default_rng(0)
    events: list[Any] = [
        {
            "event_id": str(one),
            "user": str(one % 943),
            "at": 9e8 + one,
            "seen": (1 + random.permutation(1682)[:80]).tolist(),
            "films": (1 + random.permutation(1682)[:100]).tolist(),
        }
        for one in range(requests)
    ]
    rehearsal = Rehearsal(pipeline, score)
    begun = time.perf_counter()
    for first in range(0, requests, batch):
        await rehearsal.score(events[first : first + batch])
    took = time.perf_counter() - begun
    print(f"decoded, asked, written and joined: {requests / took:.0f} requests of 100 a second")


if __name__ == "__main__":
    main()
