"""Properties of a confidence sequence: it covers at all times, and batches do not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workers.evaluation.sequential import ConfidenceSequence, brier

DIFFERENCES = st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=200)


def wealth(differences: list[float], mean: float) -> float:
    """What ten bets of fixed size, on differences above `mean`, have made of 1 on average."""
    made = []
    for halved in range(10):
        slope = 0.9 / 2**halved
        price = -math.log(1 - slope) - slope
        exponent = sum(slope * (d - mean) - price * d * d for d in differences)
        made.append(math.exp(exponent))
    return sum(made) / len(made)


@given(DIFFERENCES, st.sampled_from([0.8, 0.95, 0.999]))
def test_at_its_ends_a_bet_has_won_two_over_the_error(
    differences: list[float], confidence: float
) -> None:
    low, high = ConfidenceSequence(confidence).update(np.array(differences)).interval
    won = 2 / (1 - confidence)
    if low > -1.0:
        assert wealth(differences, low) == pytest.approx(won, rel=1e-6)
    if high < 1.0:
        assert wealth([-d for d in differences], -high) == pytest.approx(won, rel=1e-6)


@given(st.integers(0, 20), st.floats(-0.9, 0.9), st.floats(0.0, 0.95))
def test_each_bet_is_fair(halved: int, mean: float, width: float) -> None:
    """A coin between two differences wins nothing on average, whatever they are."""
    one, two = max(-1.0, mean - width), min(1.0, mean + width)
    slope = 0.9 / 2**halved
    price = -math.log(1 - slope) - slope
    expected = sum(math.exp(slope * (d - (one + two) / 2) - price * d * d) for d in (one, two))
    assert expected / 2 <= 1.0 + 1e-12


@given(DIFFERENCES, st.lists(st.integers(0, 200), max_size=6))
def test_batches_do_not_matter_to_the_last_bit(differences: list[float], cuts: list[int]) -> None:
    every = np.array(differences)
    parts = np.split(every, sorted(min(cut, len(every)) for cut in cuts))
    found = ConfidenceSequence(0.95)
    for part in parts:
        found = found.update(part)
    assert found == ConfidenceSequence(0.95).update(every)


@given(DIFFERENCES)
def test_changing_sides_turns_the_interval_round(differences: list[float]) -> None:
    one = ConfidenceSequence(0.95).update(np.array(differences))
    two = ConfidenceSequence(0.95).update(-np.array(differences))
    assert one.interval == pytest.approx(tuple(-end for end in reversed(two.interval)), abs=1e-9)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 50))
def test_losses_of_probabilities_are_between_zero_and_one(
    seed: int, classes: int, count: int
) -> None:
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.full(classes, 0.1), count)
    losses = brier(scores, random.integers(0, classes, count).astype(np.float32))
    assert ((losses >= 0.0) & (losses <= 1.0 + 1e-12)).all()


def _normal(random: np.random.Generator) -> NDArray[np.float64]:
    return random.normal(0.0, 0.1, 3000).clip(-1, 1)


def _rare(random: np.random.Generator) -> NDArray[np.float64]:
    return np.where(random.random(3000) < 0.01, 0.99, -0.01)


def _coin(random: np.random.Generator) -> NDArray[np.float64]:
    return random.choice([-1.0, 1.0], 3000)


@pytest.mark.parametrize("draw", [_normal, _rare, _coin])
def test_the_true_mean_is_inside_at_all_times(draw: object) -> None:
    """Looked at every 25 of 3,000 differences of mean 0, an 80 % sequence errs in 20 % at most."""
    random, missed = np.random.default_rng(3), 0
    for _ in range(300):
        found, outside = ConfidenceSequence(0.8), False
        for part in np.split(draw(random), 120):  # type: ignore[operator]
            found = found.update(part)
            low, high = found.interval
            outside |= not low <= 0.0 <= high
        missed += outside
    assert missed / 300 <= 0.2
