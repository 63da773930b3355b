"""Losses, weights and folding; a sequence's state in a record, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from streams.records import decoder, encode
from workers.evaluation.sequential import Balance, ConfidenceSequence, brier

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


def test_classes_count_equally_and_losses_stay_below_one() -> None:
    balance = Balance.of([0.99, 0.01])
    labels = np.repeat(np.array([0, 1], np.float32), [9900, 100])
    coin = balance.losses(np.full(10_000, 0.01), labels)
    assert coin.max() == pytest.approx(0.25)
    assert coin.mean() / balance.unit == pytest.approx(0.25), "says what everybody knows"
    blind = balance.losses(np.zeros(10_000), labels)
    assert blind.max() == 1.0
    assert blind.mean() / balance.unit == pytest.approx(0.5), "all frauds are missed"


@pytest.mark.parametrize("truth", [0.001, 0.02, 0.3, 0.9])
def test_the_least_balanced_loss_is_that_of_the_true_probability(truth: float) -> None:
    balance = Balance.of([0.98, 0.02])
    said = np.geomspace(1e-4, 0.99, 400)
    expected = truth * balance.losses(said, np.ones(400, np.float32)) + (
        1 - truth
    ) * balance.losses(said, np.zeros(400, np.float32))
    assert said[expected.argmin()] == pytest.approx(truth, rel=0.03)


def test_balance_of_equal_classes_changes_nothing() -> None:
    scores, labels = np.array([0.1, 0.9, 0.4]), np.array([0, 0, 1], np.float32)
    assert Balance.of([0.5, 0.5]).losses(scores, labels) == pytest.approx(brier(scores, labels))
    assert Balance.of([0.5, 0.5]).unit == 1.0


def test_a_class_without_examples_has_no_weight() -> None:
    with pytest.raises(ValueError, match="without examples"):
        Balance.of([1.0, 0.0])
