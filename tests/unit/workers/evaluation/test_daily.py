from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workers.evaluation.daily import (
    DayQuality,
    average_precision,
    card_precision_top_k,
    daily_quality,
    roc_auc,
)


def columns(rows: list[tuple[int, str, float, int]]) -> tuple[Any, Any, Any, Any]:
    """Day, customer, score and label from rows of them."""
    day, customer, score, label = zip(*rows, strict=True)
    return np.array(day), np.array(customer), np.array(score), np.array(label)


# day 2 is out of order; card a is found on day 1, so that its transaction on day 2 does not count
ROWS = [
    (2, "a", 0.9, 1),
    (1, "a", 0.9, 1),
    (1, "a", 0.1, 0),
    (1, "b", 0.8, 0),
    (1, "c", 0.7, 1),
    (2, "b", 0.6, 1),
    (2, "c", 0.5, 0),
]


def test_the_ranking_metrics_of_known_cases() -> None:
    label, score = np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.35, 0.8])
    assert roc_auc(label, score) == 1.0
    assert roc_auc(label, -score) == 0.0
    assert average_precision(label, np.array([0.9, 0.8, 0.2, 0.1])) == pytest.approx(0.5)


@pytest.mark.parametrize("label", [[], [0, 0], [1, 1]])
def test_one_class_has_no_ranking(label: list[int]) -> None:
    labels, scores = np.array(label, np.int8), np.zeros(len(label))
    assert roc_auc(labels, scores) is None
    assert average_precision(labels, scores) is None


def test_a_found_card_is_left_out_later() -> None:
    # day 1 investigates a (fraud) and b; day 2 b (fraud) and c, for a is blocked
    assert card_precision_top_k(*columns(ROWS), k=2) == pytest.approx((1 / 2 + 1 / 2) / 2)
    # with one card a day: a, then b
    assert card_precision_top_k(*columns(ROWS), k=1) == 1.0


def test_a_fraud_that_was_not_investigated_stays_in() -> None:
    rows = [(1, "a", 0.9, 0), (1, "b", 0.1, 1), (2, "b", 0.9, 1)]
    assert card_precision_top_k(*columns(rows), k=1) == 0.5


def test_a_card_counts_once_with_its_highest_score() -> None:
    rows = [(1, "a", 0.1, 1), (1, "a", 0.9, 0), (1, "b", 0.8, 0), (1, "c", 0.7, 1)]
    assert card_precision_top_k(*columns(rows), k=2) == 0.5


def test_fewer_cards_than_are_investigated_still_divide_by_all() -> None:
    assert card_precision_top_k(*columns(ROWS), k=100) == pytest.approx((2 / 100 + 1 / 100) / 2)


def test_negative_scores_rank_too() -> None:
    rows = [(1, "a", -5.0, 1), (1, "b", -9.0, 0)]
    assert card_precision_top_k(*columns(rows), k=1) == 1.0


def test_no_transactions_have_no_quality() -> None:
    nothing = np.zeros(0)
    empty = np.zeros(0, np.int64)
    assert card_precision_top_k(empty, empty, nothing, empty) is None
    assert daily_quality(empty, empty, nothing, empty) == []


def test_the_quality_of_each_day() -> None:
    first, second = daily_quality(*columns(ROWS), k=2)
    assert first.ap == pytest.approx(5 / 6)
    assert first == DayQuality(day=1, n=4, frauds=2, auc=0.75, ap=first.ap, cp100=0.5)
    assert second == DayQuality(day=2, n=3, frauds=2, auc=1.0, ap=1.0, cp100=0.5)


def test_a_day_without_fraud_has_no_ranking() -> None:
    (day,) = daily_quality(*columns([(4, "a", 0.2, 0), (4, "b", 0.3, 0)]))
    assert (day.auc, day.ap, day.cp100, day.frauds) == (None, None, 0.0, 0)


def test_the_order_of_the_rows_is_of_no_account() -> None:
    random = np.random.default_rng(3)
    size = 3000
    day, customer = random.integers(0, 9, size), random.integers(0, 200, size)
    score = random.integers(0, 50, size) / 50  # with ties
    label = (random.random(size) < 0.1).astype(np.int8)
    other = random.permutation(size)
    assert daily_quality(day, customer, score, label, 10) == daily_quality(
        day[other], customer[other], score[other], label[other], 10
    )


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        card_precision_top_k(np.zeros(2, int), np.zeros(2), np.zeros(2), np.zeros(1, int))
