"""The gate's decisions, one by one; its properties are in tests/property/test_gate.py."""

from __future__ import annotations

import numpy as np
import pytest

from streams.spec import Gate
from workers.evaluation.gate import Opponent, decide
from workers.evaluation.metrics import Labels, Scores, measures


def world(seed: int = 0, count: int = 4000, rate: float = 0.05) -> tuple[Labels, Scores]:
    """Labels, and scores that know something of them, [n, 1]."""
    random = np.random.default_rng(seed)
    labels = (random.random(count) < rate).astype(np.float32)
    scores = random.normal(size=count) + 2 * labels
    return labels, (1 / (1 + np.exp(-scores)))[:, None].astype(np.float32)


def noisy(scores: Scores, amount: float, seed: int = 9) -> Scores:
    noise = np.random.default_rng(seed).normal(0, amount, scores.shape)
    return (scores + noise).astype(np.float32)


def test_a_better_candidate_is_promoted() -> None:
    labels, scores = world()
    found = decide(Gate(), labels, scores, Opponent(3, noisy(scores, 0.3)))
    assert found.action == "promote"
    assert found.low > 0
    assert "champion 3" in found.reason
    assert f"{found.candidate:.4f}" in found.reason


def test_the_same_model_is_promoted_within_the_margin() -> None:
    labels, scores = world()
    found = decide(Gate(), labels, scores, Opponent(3, scores))
    assert (found.action, found.gain, found.low, found.high) == ("promote", 0.0, 0.0, 0.0)


def test_a_worse_candidate_is_rejected() -> None:
    labels, scores = world()
    found = decide(Gate(), labels, noisy(scores, 0.3), Opponent(3, scores))
    assert found.action == "reject"
    assert found.high < 0


def test_what_cannot_be_told_apart_is_inconclusive() -> None:
    labels, scores = world(count=800)
    found = decide(Gate(margin=0.0), labels, noisy(scores, 0.1, 1), Opponent(3, noisy(scores, 0.1)))
    assert found.action == "inconclusive"
    assert found.low < 0 < found.high


def test_too_few_positives_are_inconclusive_even_for_the_first_version() -> None:
    labels, scores = world(count=300, rate=0.02)
    for champion in (Opponent(), Opponent(3, scores)):
        found = decide(Gate(), labels, scores, champion)
        assert found.action == "inconclusive"
        assert "20 are needed" in found.reason


def test_nothing_to_evaluate_on_is_inconclusive() -> None:
    empty = np.empty(0, np.float32), np.empty((0, 1), np.float32)
    assert decide(Gate(), *empty, Opponent()).action == "inconclusive"


@pytest.mark.parametrize(("floor", "action"), [(0.1, "promote"), (0.99, "reject")])
def test_the_first_version_must_reach_the_floor(floor: float, action: str) -> None:
    labels, scores = world()
    found = decide(Gate(floor=floor), labels, scores, Opponent())
    assert found.action == action
    assert "first version" in found.reason
    assert "gain" not in found.as_metrics()


def test_a_champion_that_does_not_load_is_named() -> None:
    labels, scores = world()
    found = decide(Gate(), labels, scores, Opponent(4, None, "the file is gone"))
    assert found.action == "promote"
    assert "champion 4 cannot be compared (the file is gone)" in found.reason


@pytest.mark.parametrize("name", ["average_precision", "roc_auc", "accuracy"])
def test_each_metric_with_several_classes(name: str) -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 3, 600).astype(np.float32)
    scores = random.random((600, 3)) + 0.5 * (labels[:, None] == np.arange(3))
    scores = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    worse = noisy(scores, 0.4)
    found = decide(Gate(metric=name), labels, scores, Opponent(1, worse))  # type: ignore[arg-type]
    assert found.action == "promote"
    assert found.gain > 0


def test_measures_of_perfect_probabilities() -> None:
    random = np.random.default_rng(0)
    scores = random.random((20_000, 1)).astype(np.float32)
    labels = (random.random(20_000) < scores[:, 0]).astype(np.float32)
    found = measures(scores, labels)
    assert found["calibration_error"] < 0.02
    assert found["brier"] == pytest.approx(1 / 6, abs=0.01)  # the mean of p(1-p)
