"""Properties of the gate: fair, repeatable, and its metrics those of scikit-learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from streams.spec import Gate
from workers.evaluation.case import Case, Contender
from workers.evaluation.estimates import deviations
from workers.evaluation.gate import GateDecision, decide
from workers.evaluation.metrics import Labels, Scores, metric, point

GATE = Gate(resamples=100, least_support=2, alerts=1e9, calibration=1e9)
SKLEARN = {"average_precision": average_precision_score, "roc_auc": roc_auc_score}


@st.composite
def scored(draw: st.DrawFn) -> tuple[Labels, Scores, Scores]:
    """Labels and two models' scores, with many ties."""
    seed = draw(st.integers(0, 2**32 - 1))
    count = draw(st.integers(4, 200))
    steps = draw(st.sampled_from([2, 10, 1000]))
    random = np.random.default_rng(seed)
    labels = (random.random(count) < draw(st.sampled_from([0.1, 0.5]))).astype(np.float32)
    first, second = (
        (np.round(random.random((count, 1)) * steps) / steps).astype(np.float32) for _ in "ab"
    )
    return labels, first, second


def judge(data: tuple[Labels, Scores, Scores], gate: Gate = GATE, seed: int = 0) -> GateDecision:
    """The first scores as the candidate's, the second as the champion's."""
    labels, ours, theirs = data
    return decide(gate, Case(labels, Contender(0, ours), Contender(1, theirs)), seed=seed)


@given(scored(), st.sampled_from(["average_precision", "roc_auc"]), st.integers(0, 99))
def test_metrics_are_those_of_scikit_learn_with_weights(
    data: tuple[Labels, Scores, Scores], name: str, seed: int
) -> None:
    labels, scores, _ = data
    weights = np.random.default_rng(seed).integers(0, 4, (1, len(labels))).astype(float)
    for one in (0.0, 1.0):
        assume(weights[0, labels == one].sum() > 0)
    expected = SKLEARN[name](labels, scores[:, 0], sample_weight=weights[0])
    assert metric(name, scores, labels)(weights)[0] == pytest.approx(expected, abs=1e-9)


@given(scored())
def test_accuracy_is_that_of_scikit_learn(data: tuple[Labels, Scores, Scores]) -> None:
    labels, scores, _ = data
    expected = accuracy_score(labels, scores[:, 0] >= 0.5)
    assert point("accuracy", scores, labels) == pytest.approx(expected)


@settings(max_examples=50)
@given(scored())
def test_a_model_never_loses_against_itself(data: tuple[Labels, Scores, Scores]) -> None:
    labels, scores, _ = data
    found = judge((labels, scores, scores))
    assert all(one.verdict == "passed" for one in found.rules if one.name in ("worse", "margin"))


@settings(max_examples=50)
@given(scored(), st.integers(0, 99))
def test_the_same_input_gives_the_same_decision(
    data: tuple[Labels, Scores, Scores], seed: int
) -> None:
    one, two = (judge(data, seed=seed) for _ in "ab")
    assert repr(one) == repr(two)


@settings(max_examples=50)
@given(scored())
def test_changing_sides_turns_the_gain_round(data: tuple[Labels, Scores, Scores]) -> None:
    labels, first, second = data
    assume(min(labels.sum(), (1 - labels).sum()) >= GATE.least_support)
    one, two = (
        judge(pair).evidence.champion.gain
        for pair in ((labels, first, second), (labels, second, first))
    )
    assert (two.value, two.error) == pytest.approx((-one.value, one.error))


@settings(max_examples=50)
@given(scored())
def test_a_rising_transformation_of_scores_changes_nothing(
    data: tuple[Labels, Scores, Scores],
) -> None:
    labels, first, _ = data
    assume(0 < labels.sum() < len(labels))
    for name in ("average_precision", "roc_auc"):
        assert point(name, first, labels) == point(name, first * 4 - 2, labels)


@settings(max_examples=30)
@given(scored())
def test_a_wider_margin_never_takes_a_promotion_back(data: tuple[Labels, Scores, Scores]) -> None:
    actions = [
        judge(data, dataclasses.replace(GATE, margin=margin)).action for margin in (0.0, 0.1, 1.0)
    ]
    promoted = [action == "promote" for action in actions]
    assert promoted == sorted(promoted)


def test_the_interval_covers_the_true_gain() -> None:
    """Of many samples of a known world, about 90 % of the 90 % intervals hold the true gain."""
    random = np.random.default_rng(5)

    def sample(count: int) -> tuple[Labels, Scores, Scores]:
        labels = (random.random(count) < 0.2).astype(np.float32)
        common = random.normal(size=count)
        first = labels * 1.5 + common + 0.6 * random.normal(size=count)
        second = labels * 1.5 + common + 0.9 * random.normal(size=count)
        return labels, first[:, None].astype(np.float32), second[:, None].astype(np.float32)

    labels, first, second = sample(400_000)
    truth = point("roc_auc", first, labels) - point("roc_auc", second, labels)
    covered, z = 0, deviations(0.1)
    for number in range(300):
        found = judge(sample(1000), Gate(metric="roc_auc", resamples=200), number)
        gain = found.evidence.champion.gain
        covered += gain.low(z) <= truth <= gain.high(z)
    assert 0.85 <= covered / 300 <= 0.95
