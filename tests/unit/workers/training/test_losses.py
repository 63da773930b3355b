"""What a value is trained to and exported as; and that classes give the file they always gave."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from streams.errors import PipelineError, TrainingError
from streams.spec import Model
from streams.spec.layout import Layout
from tests import amounts, synthetic
from tests.synthetic import DAY, START
from workers.examples.reading import Examples, columns
from workers.releases.onnx_files import check_signature, run, session
from workers.training.candidate import Candidate, label_numbers
from workers.training.export import build, export, verify
from workers.training.fit import train
from workers.training.losses import ValueLoss, loss_of
from workers.training.network_trial import try_network
from workers.training.preparing import Normalise
from workers.training.slices import slices_at

PIPELINE = amounts.pipeline
EXAMPLES = columns(amounts.made(6), PIPELINE)
SLICES = slices_at(PIPELINE.policies.retrain, START + 6 * DAY)
DIGEST = "388552d98422ffb065e2fd11aa30644e5859532b7ca6122b169692206752e016"
"""Of an ONNX file of fixed weights, as it was."""
IDENTITY = Normalise(np.zeros(4), np.ones(4))


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    return train(PIPELINE, EXAMPLES, SLICES)


def test_classes_give_the_file_that_they_gave_before_there_were_values() -> None:
    network = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.25)
    served = loss_of(synthetic.pipeline, [1.0, 4.0]).served(IDENTITY, network)
    found = hashlib.sha256(export(served, Layout.of(4))).hexdigest()
    assert found == DIGEST


def test_quantiles_cover_what_they_say_and_are_in_the_labels_unit(candidate: Candidate) -> None:
    vectors, labels = amounts.drawn(20_000, seed=99)
    scores = run(session(candidate.onnx), vectors)
    middle, spread = amounts.truth(vectors.astype(np.float64))
    assert np.abs(scores[:, 0] - middle).mean() < 0.3 * spread.mean()
    covered = (labels[:, None] <= scores[:, 1:]).mean(axis=0)
    assert covered[0] == pytest.approx(0.05, abs=0.03)
    assert covered[2] == pytest.approx(0.95, abs=0.03)
    # the noise is known by the feature that it grows with, not in the mean alone
    widths = scores[:, 3] - scores[:, 1]
    assert np.corrcoef(widths, spread)[0, 1] > 0.9
    assert (np.diff(scores[:, 1:], axis=1) >= 0).all()


def test_what_is_kept_of_a_value(candidate: Candidate) -> None:
    mean, scale = candidate.normalisation["label"]
    trained = EXAMPLES.between(*SLICES.train).label.astype(np.float64)
    assert (mean, scale) == pytest.approx((trained.mean(), trained.std()))
    assert candidate.threshold == 0.5
    assert candidate.parameters["point_loss"] == "huber"
    assert "positive_weight" not in candidate.parameters
    assert "point_loss" not in synthetic.pipeline.training
    assert candidate.metrics["validation"] < 0
    assert train(PIPELINE, EXAMPLES, SLICES).onnx == candidate.onnx


def test_what_is_evaluated_is_never_learnt_from(candidate: Candidate) -> None:
    later = EXAMPLES.event_time >= SLICES.evaluate[0]
    turned = replace(EXAMPLES, label=np.where(later, -EXAMPLES.label, EXAMPLES.label))
    assert train(PIPELINE, turned, SLICES).onnx == candidate.onnx


def test_quantiles_that_cross_are_sorted_and_the_point_stays() -> None:
    network = nn.Linear(4, 4)
    nn.init.zeros_(network.weight)
    with torch.no_grad():
        network.bias.copy_(torch.tensor([9.0, 3.0, -1.0, 2.0]))
    served = loss_of(PIPELINE, [100.0, 10.0]).served(IDENTITY, network)
    data = export(served, Layout.of(4))
    check_signature(data, Layout.of(4), 4)
    found = run(session(data), np.zeros((2, 4), np.float32))
    assert found.tolist() == [[190.0, 90.0, 120.0, 130.0]] * 2
    verify(data, served, np.zeros((3, 4), np.float32))


def test_the_loss_is_that_of_the_point_and_of_each_quantile() -> None:
    random = np.random.default_rng(5)
    answers = random.normal(size=(50, 3)).astype(np.float32)
    labels = random.normal(50, 7, 50).astype(np.float32)
    quantiles, wanted = (0.2, 0.9), (labels - 50) / 7

    def pinball(quantile: float, answer: NDArray[np.float32]) -> float:
        error = wanted - answer
        return float(np.mean(np.where(error > 0, quantile * error, (quantile - 1) * error)))

    expected = [pinball(q, answers[:, 1 + i]) for i, q in enumerate(quantiles)]
    away = np.abs(wanted - answers[:, 0])
    points = {
        "absolute": away.mean(),
        "squared": (away**2).mean(),
        "huber": np.where(away < 1, away**2 / 2, away - 0.5).mean(),
    }
    for name, of_point in points.items():
        loss = ValueLoss([50.0, 7.0], quantiles, name)
        assert -loss.quality(answers, labels) == pytest.approx((of_point + sum(expected)) / 3)


def test_the_point_loss_is_a_parameter() -> None:
    labels = EXAMPLES.label
    for name, kind in (("squared", nn.MSELoss), ("absolute", nn.L1Loss), ("huber", nn.HuberLoss)):
        model = replace(PIPELINE.model, parameters={"point_loss": name})
        declared = replace(PIPELINE, model=model)
        found = loss_of(declared, label_numbers(declared, labels))
        assert isinstance(found.get_submodule("_point_loss"), kind)


def test_check_tries_the_network_as_training_does() -> None:
    try_network(PIPELINE, EXAMPLES.vector[:50])


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (nn.ReLU(), "about half are below 0"),
        (nn.Sigmoid(), "about half are below 0"),
        (nn.Linear(4, 2), r"expected \[2, 4\] - return the point"),
    ],
)
def test_a_network_that_cannot_be_a_values_is_named(last: nn.Module, said: str) -> None:
    model = Model(
        network=lambda features: nn.Sequential(nn.Linear(features, 4), last),
        quantiles=amounts.QUANTILES,
    )
    with pytest.raises(PipelineError, match=said):
        build(replace(PIPELINE, model=model))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e.take(slice(0, 100)), "100 training examples"),
        (lambda e: replace(e, label=np.full_like(e.label, 7.5)), "have one label"),
        (lambda e: e.between(0.0, SLICES.evaluate[0]), "evaluate slice has 0 examples"),
    ],
)
def test_too_little_to_learn_from_is_said_in_one_line(change: object, said: str) -> None:
    changed: Examples = change(EXAMPLES)  # type: ignore[operator]
    with pytest.raises(TrainingError, match=said) as error:
        train(PIPELINE, changed, SLICES)
    assert "\n" not in str(error.value)
