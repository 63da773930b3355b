"""Training: what it learns, what it must not look at, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.errors import TrainingError
from streams.spec import Decision, Feedback, Model, Pipeline
from tests.synthetic import DAY, START, in_columns, made, pipeline
from workers.evaluation.metrics import calibration_error, measures, point
from workers.evaluation.opponent import evaluate
from workers.examples.reading import Examples
from workers.training.candidate import Candidate, choose_threshold, class_weights
from workers.training.epochs import Epoch, How
from workers.training.fit import train
from workers.training.slices import cut, slices_at

EXAMPLES = in_columns(made(6, per_day=1500))
SLICES = slices_at(pipeline.policies.retrain, START + 6 * DAY)


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    return train(pipeline, EXAMPLES, SLICES)


def test_a_candidate_begins_with_the_champions_weights() -> None:
    policies = replace(
        pipeline.policies, retrain=replace(pipeline.policies.retrain, warm_start=True)
    )
    short = replace(pipeline.model, parameters={"epochs": 1, "batch_size": 256})
    warm = replace(pipeline, model=short, policies=policies)
    first = train(warm, EXAMPLES, SLICES)
    second, again = (train(warm, EXAMPLES, SLICES, champion=first.onnx) for _ in range(2))
    assert second.onnx == again.onnx
    assert second.metrics["validation"] > first.metrics["validation"] + 0.01
    cold = train(replace(warm, policies=pipeline.policies), EXAMPLES, SLICES)
    held = cut(EXAMPLES, SLICES).evaluate
    assert (evaluate(first.onnx, held) == evaluate(cold.onnx, held)).all()
    assert len(first.onnx) > len(cold.onnx), "it carries its weights"
    wider = replace(warm, model=replace(short, network=lambda features: network_of(features, 1, 8)))
    anew = train(wider, EXAMPLES, SLICES)
    assert train(wider, EXAMPLES, SLICES, champion=first.onnx).onnx == anew.onnx


def relabelled(examples: Examples, rows: NDArray[np.bool_], labels: Any) -> Examples:
    changed = examples.label.copy()
    changed[rows] = labels
    return replace(examples, label=changed)


def test_it_learns(candidate: Candidate) -> None:
    held = cut(EXAMPLES, SLICES).evaluate
    found = measures(evaluate(candidate.onnx, held), held.label)
    assert found["roc_auc"] > 0.85
    assert found["average_precision"] > 0.45
    assert candidate.counts["train"][0] == len(cut(EXAMPLES, SLICES).train)


def test_scores_are_probabilities_under_the_true_prior() -> None:
    patient = replace(
        pipeline, model=replace(pipeline.model, parameters={"epochs": 12, "batch_size": 64})
    )
    held = cut(EXAMPLES, SLICES).evaluate
    scores = evaluate(train(patient, EXAMPLES, SLICES).onnx, held)
    assert scores.mean() == pytest.approx(held.label.mean(), rel=0.25)
    assert calibration_error(scores, held.label) < 0.05


def test_what_is_evaluated_is_never_learnt_from(candidate: Candidate) -> None:
    """The same bytes and threshold come out with every later label turned round."""
    rows = EXAMPLES.event_time >= SLICES.evaluate[0]
    turned = relabelled(EXAMPLES, rows, 1 - EXAMPLES.label[rows])
    again = train(pipeline, turned, SLICES)
    assert again.onnx == candidate.onnx
    assert again.threshold == candidate.threshold


def test_slices_follow_one_another() -> None:
    sliced = cut(EXAMPLES, SLICES)
    assert sliced.train.event_time.max() < sliced.validate.event_time.min()
    assert sliced.validate.event_time.max() < sliced.evaluate.event_time.min()
    assert sum(map(len, (sliced.train, sliced.validate, sliced.evaluate))) == len(EXAMPLES)


def test_the_watermark_itself_is_evaluated() -> None:
    at = float(EXAMPLES.event_time[-1])
    sliced = cut(EXAMPLES, slices_at(pipeline.policies.retrain, at))
    assert sliced.evaluate.event_time[-1] == at


def test_progress_is_reported_and_patience_ends_it() -> None:
    told: list[Epoch] = []
    impatient = replace(
        pipeline,
        model=replace(
            pipeline.model, parameters={"epochs": 50, "patience": 1, "learning_rate": 0.3}
        ),
    )
    train(impatient, EXAMPLES, SLICES, How(told.append))
    assert [one.epoch for one in told] == list(range(1, len(told) + 1))
    assert len(told) < 50


def test_several_classes() -> None:
    classes = ("low", "middle", "high")
    many = Pipeline(
        name="classes",
        event=pipeline.event,
        features=pipeline.features,
        model=Model(network=lambda features: network_of(features, 3), outputs=3),
        decision=Decision(classes=classes),
        feedback=Feedback(horizon="1d", classes=classes),
        policies=pipeline.policies,
    )
    labels = np.digitize(EXAMPLES.vector[:, 0], [1.0, 4.0]).astype(np.float32)
    found = train(many, replace(EXAMPLES, label=labels), SLICES)
    held = cut(replace(EXAMPLES, label=labels), SLICES).evaluate
    scores = evaluate(found.onnx, held)
    assert scores.shape == (len(held), 3)
    assert scores.sum(axis=1) == pytest.approx(np.ones(len(held)), abs=1e-5)
    assert point("accuracy", scores, held.label) > 0.85


def network_of(features: int, outputs: int, hidden: int = 16) -> object:
    from torch import nn

    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e.take(slice(0, 100)), "100 training examples"),
        (lambda e: relabelled(e, e.event_time < SLICES.train[1], 0.0), "of the rarest class"),
        (lambda e: relabelled(e, e.event_time >= SLICES.evaluate[0], 0.0), "evaluate slice has"),
        (lambda e: relabelled(e, e.event_time < START + DAY, 0.5), "label 0.5 is not a class"),
    ],
)
def test_too_little_to_learn_from_is_said_in_one_line(change: object, said: str) -> None:
    with pytest.raises(TrainingError, match=said) as error:
        train(pipeline, change(EXAMPLES), SLICES)  # type: ignore[operator]
    assert "\n" not in str(error.value)


def test_a_loss_that_is_not_finite_is_said() -> None:
    wild = replace(pipeline, model=replace(pipeline.model, parameters={"learning_rate": 1e30}))
    with pytest.raises(TrainingError, match="training loss became"):
        train(wild, EXAMPLES, SLICES)


def test_class_weights() -> None:
    labels = np.array([0] * 90 + [1] * 10, np.float32)
    assert class_weights(labels, 2, "balanced").tolist() == [1.0, 3.0]
    assert class_weights(labels, 2, 4).tolist() == [1.0, 4.0]
    for wrong in ("often", 0, -1):
        with pytest.raises(TrainingError, match="positive_weight"):
            class_weights(labels, 2, wrong)


def test_the_threshold_has_the_best_f1_and_parts_no_equal_scores() -> None:
    scores = np.array([[0.9], [0.8], [0.8], [0.3], [0.1]], np.float32)
    labels = np.array([1, 1, 1, 0, 0], np.float32)
    assert choose_threshold(scores, labels) == pytest.approx(0.8)
