"""What is broken is found, and what is merely another model is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.spec import RollOut
from workers.rollouts.guards import Asked, absent, broken
from workers.rollouts.paired import Lately

POLICY = RollOut()
FAST = Asked(0.01, 0.01)


def sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logit))


class Both:
    """Two models of the same rare class that err by themselves."""

    def __init__(self, count: int = 2000, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.truth, *self.errors = random.normal(size=(3, count))
        self.champion = sigmoid(self.truth + 0.5 * self.errors[0] - 4)[:, None]
        self.challenger = sigmoid(self.truth + 0.5 * self.errors[1] - 4)[:, None]

    def found(self, challenger: NDArray[np.float64]) -> tuple[str, ...]:
        return broken(POLICY, Lately(self.champion, challenger))


@pytest.mark.parametrize("count", [0, 1, 99, 100, 200, 2000])
def test_another_good_model_is_not_broken(count: int) -> None:
    for seed in range(20):
        both = Both(count, seed)
        assert both.found(both.challenger) == ()


def test_a_weak_model_is_the_labels_affair() -> None:
    both = Both()
    noise = sigmoid(np.random.default_rng(1).normal(size=(2000, 1)) - 4)
    assert both.found(noise) == ()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda both: np.full((2000, 1), 0.02), "it says 0.02 of each of 2000 events"),
        (lambda both: sigmoid(-both.truth - 4)[:, None], "the other way round: correlation -0.8"),
        (lambda both: both.challenger * 5, "its mean score is 0.1"),
        (lambda both: both.challenger / 5, "times the champion's: beyond 3 times, or that part"),
        (
            lambda both: np.where(np.arange(2000)[:, None] % 50 == 0, np.nan, both.challenger),
            "no finite score for 40 of 2000 events",
        ),
    ],
    ids=["constant", "flipped", "too high", "too low", "not finite"],
)
def test_what_is_broken_is_named(bad: object, said: str) -> None:
    both = Both()
    assert callable(bad)
    [found] = both.found(bad(both))
    assert said in found


def test_a_champion_that_cries_wolf_throws_out_nobody_who_does_not() -> None:
    both = Both()
    wolf = Lately(np.minimum(1.0, 8 * both.champion), both.challenger)
    [said] = broken(POLICY, wolf)
    assert "its mean score is" in said
    right = float(both.challenger.mean())
    assert broken(POLICY, wolf, [1 - right, right]) == ()
    [said] = broken(POLICY, wolf, [0.5, 0.5])
    assert "its mean score is" in said


def test_two_errors_in_a_hundred_events_are_few() -> None:
    both = Both(100)
    scores = both.challenger.copy()
    scores[:4] = np.nan
    assert both.found(scores) == ()


def test_a_champion_that_says_the_same_of_all_condemns_nobody() -> None:
    same = np.full((500, 1), 0.5)
    assert broken(POLICY, Lately(same, same)) == ()


def test_of_several_classes_one_that_agrees_is_enough() -> None:
    random = np.random.default_rng(2)
    champion = random.dirichlet((1, 1, 1), 500)
    assert broken(POLICY, Lately(champion, champion[:, [0, 2, 1]])) == ()
    [said] = broken(POLICY, Lately(champion, 1 - champion))
    assert "the other way round" in said


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([FAST] * 5, ""),
        ([Asked(0.01, None)] * 4, ""),
        ([Asked(0.01, None)] * 5, "does not answer"),
        ([Asked(None, None)] * 5, ""),
        ([FAST, *[Asked(0.01, None)] * 4], ""),
        ([Asked(0.01, 0.4)] * 5, "answers in 0.4 s, more than 0.25 s"),
        ([Asked(0.4, 0.4)] * 5, ""),
        ([*[Asked(0.01, 0.4)] * 2, *[FAST] * 3], ""),
        ([*[Asked(0.01, None)] * 9, *[FAST] * 5], ""),
    ],
)
def test_who_does_not_answer_is_told_from_a_server_in_trouble(
    answers: list[Asked], said: str
) -> None:
    found = absent(POLICY, answers)
    assert bool(found) == bool(said)
    assert said in "".join(found)
