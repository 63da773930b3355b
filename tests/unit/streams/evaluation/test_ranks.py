"""Measures of orders: held against scikit-learn's, and against drawing orders at random."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from streams.evaluation.cells import Counted, add
from streams.evaluation.ranks import random_ranks, ranks
from streams.evaluation.totals import Total
from streams.spec.tasks import Task
from streams.sums import Cell

TASK = Task("ranking", 6, top=3)
NAN = np.nan


def test_ndcg_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, (50, 6)).astype(np.float64)
    labels[:, 0] += 1  # of each something was chosen
    scores = random.random((50, 6))
    expected = [ndcg_score(labels[[i]], scores[[i]], k=3) for i in range(50)]
    assert ranks(scores, labels, 3).ndcg == pytest.approx(expected)


def test_places_of_the_first_that_was_chosen() -> None:
    labels = np.array([[0, 0, 1, NAN], [0, 1, 0, 0], [0, 0, 0, NAN], [NAN] * 4])
    scores = np.array([[0.5, 0.3, 0.1, 0.9], [0.1, 0.9, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4], [0] * 4])
    found = ranks(scores, labels, 2)
    assert found.mrr == pytest.approx([1 / 3, 1.0, NAN, NAN], nan_ok=True)
    assert found.hit_rate == pytest.approx([0.0, 1.0, NAN, NAN], nan_ok=True)
    assert np.isnan(found.ndcg[2:]).all()


def test_what_a_random_order_reaches_is_what_drawn_ones_do() -> None:
    labels = np.array([[2.0, 0, 0, 1, 0, NAN]])
    expected = random_ranks(labels, 3)
    draws = np.random.default_rng(1).random((40_000, 6))
    found = ranks(draws, np.repeat(labels, len(draws), axis=0), 3)
    for name in ("ndcg", "mrr", "hit_rate"):
        drawn = getattr(found, name).mean()
        assert getattr(expected, name)[0] == pytest.approx(drawn, abs=0.006)


def test_a_correction_takes_back_what_was_counted() -> None:
    labels = np.array([[1, 0, NAN], [0, 1, NAN], [0, 1, 0], [0, 0, 0]], np.float64)
    counted = Counted(
        labels=labels,
        scores=np.array([[0.6, 0.4, 0], [0.6, 0.4, 0], [0.2, 0.3, 0.5], [0.2, 0.3, 0.5]]),
        decisions=np.zeros(4, np.int64),
        weights=np.array([-1, 1, 1, 1]),
        keys=["a"] * 4,
        fed_back=np.ones(4, np.int64),
        delays=np.zeros(4),
    )
    cell = Cell(0, 60, 1, "champion", "")
    add(cell, counted._replace(weights=np.array([1, 0, 0, 0])), TASK, 0)
    add(cell, counted, TASK, 0)
    measures = Total.of([cell, Cell(0, 60, 1, "champion", "", events=0)]).measures()
    assert cell.events == 3
    assert measures["mrr"] == pytest.approx(0.5)
    assert measures["chosen"] == pytest.approx(2 / 3)
    assert measures["hit_rate"] == 1.0
