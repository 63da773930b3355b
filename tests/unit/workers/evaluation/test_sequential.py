"""Losses, weights and folding; a sequence's state in a record, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from streams.records import decoder, encode
from workers.evaluation.sequential import ClassWeights, ConfidenceSequence, brier, cost, fold

START = ConfidenceSequence(0.95)


def test_nothing_is_known_before_the_first_difference() -> None:
    assert (START.interval, START.mean) == ((-1.0, 1.0), 0.0)
    assert START.update(np.zeros(0)) == START


def test_the_interval_closes_around_the_mean() -> None:
    differences = np.random.default_rng(1).normal(0.01, 0.05, 20_000).clip(-1, 1)
    found = START.update(differences)
    low, high = found.interval
    assert low < found.mean < high
    assert 0.0 < low < 0.01 < high < 0.02
    assert found.mean == pytest.approx(differences.mean())


def test_equal_losses_close_it_as_one_over_n() -> None:
    low, high = START.update(np.zeros(10_000)).interval
    assert -0.0015 < low < 0.0 < high < 0.0015


@pytest.mark.parametrize("bad", [1.01, -2.0, float("nan")])
def test_what_is_no_difference_of_losses_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="each loss"):
        START.update(np.array([0.0, bad]))


def test_a_state_comes_back_from_a_record_to_the_last_bit() -> None:
    random = np.random.default_rng(2)
    kept = START.update(random.normal(0, 0.1, 777))
    back = decoder(ConfidenceSequence).decode(encode(kept))
    more = random.normal(0, 0.1, 333)
    assert back == kept
    assert back.update(more) == kept.update(more)


def test_brier_of_one_score_and_of_several_agree_on_two_classes() -> None:
    scores, labels = np.array([0.1, 0.9, 0.4]), np.array([0, 0, 1], np.float32)
    two = np.stack([1 - scores, scores], axis=1)
    assert brier(scores, labels) == pytest.approx([0.01, 0.81, 0.36])
    assert brier(two, labels) == pytest.approx(brier(scores, labels))


def test_the_worst_brier_of_several_classes_is_one() -> None:
    assert brier(np.array([[1.0, 0, 0], [0, 1.0, 0]]), np.array([2, 1], np.float32)).tolist() == [
        1.0,
        0.0,
    ]


def test_weighted_losses_estimate_the_mean_over_classes() -> None:
    weights = ClassWeights.of([0.99, 0.01])
    labels = np.repeat(np.array([0, 1], np.float32), [9900, 100])
    losses = np.where(labels == 1, 0.5, 0.1)
    weighed = weights.weigh(losses, labels)
    assert weighed.max() == 0.5
    assert weighed.mean() / weights.unit == pytest.approx((0.5 + 0.1) / 2)


def test_a_class_without_examples_has_no_weight() -> None:
    with pytest.raises(ValueError, match="without examples"):
        ClassWeights.of([1.0, 0.0])


def test_costs_are_read_by_label_and_decision() -> None:
    decided, labels = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1], np.float32)
    assert cost(decided, labels, [[0, 5], [100, 5]]).tolist() == [0.0, 0.05, 1.0, 0.05]


def test_an_entitys_day_counts_once() -> None:
    differences = np.array([0.1, 0.3, 0.5, -0.2, 0.4])
    found = fold(differences, ["b", "a", "b", "b", "a"], np.array([1, 1, 1, 2, 1]))
    assert found == pytest.approx([0.35, 0.3, -0.2])
    assert fold(np.zeros(0), [], np.zeros(0, np.int64)).tolist() == []
