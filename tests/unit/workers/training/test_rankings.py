"""Rankings are learnt list-wise, exported with a softmax over candidates, and judged by nDCG."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streams.errors import TrainingError
from streams.records import Action
from tests.rankings import made, pipeline
from tests.synthetic import DAY, START
from workers.evaluation.case import Case, Contender
from workers.evaluation.gate import decide
from workers.evaluation.opponent import evaluate
from workers.evaluation.rankings import rank_chance
from workers.evaluation.values import measured
from workers.examples.reading import columns
from workers.releases.manifests import blank
from workers.releases.probes import probes
from workers.training.candidate import Candidate
from workers.training.fit import train
from workers.training.losses import ListLoss
from workers.training.slices import cut, slices_at

EXAMPLES = columns(made(), pipeline)
SLICES = slices_at(pipeline.policies.retrain, START + 6 * DAY)
HELD = cut(EXAMPLES, SLICES).evaluate


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    return train(pipeline, EXAMPLES, SLICES)


def test_the_loss_is_the_cross_entropy_of_what_was_chosen() -> None:
    logits = torch.tensor([[1.0, 2.0, 9.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    nan = float("nan")
    labels = torch.tensor([[0.0, 1.0, nan], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    first, second = np.log(1 + np.exp(-1.0)), np.log(3.0)
    loss = ListLoss(10)
    assert float(loss(logits, labels)) == pytest.approx((first + second) / 2)
    assert loss.weight(labels) == 2.0


def test_it_learns_and_the_gate_promotes_it(candidate: Candidate) -> None:
    scores = evaluate(candidate.onnx, HELD)
    absent = np.isnan(HELD.label)
    assert (scores[absent] == 0).all()
    assert scores.sum(axis=1) == pytest.approx(np.ones(len(HELD)), abs=1e-5)
    found = measured(pipeline.predicts, scores, HELD.label)
    assert found["ndcg"] > rank_chance("ndcg", HELD.label, pipeline.predicts) + 0.2
    case = Case(HELD.label, Contender(0, scores), task=pipeline.predicts)
    decision = decide(pipeline.policies.gate, case)
    assert decision.action is Action.PROMOTE
    assert "nDCG" in decision.reason
    worse = Case(
        HELD.label,
        Contender(0, np.roll(scores, 1, axis=0)),
        Contender(1, scores),
        task=pipeline.predicts,
    )
    assert decide(pipeline.policies.gate, worse).action is Action.REJECT


def test_probes_of_a_version_are_requests(candidate: Candidate) -> None:
    manifest = blank(pipeline)
    rows = probes(pipeline, manifest)
    assert set(rows["candidates"][:, :, 0].ravel().tolist()) == {0.0, 1.0}
    assert evaluate(candidate.onnx, HELD.take(slice(0, 0))).shape == (0, pipeline.model.outputs)


def test_without_any_choice_nothing_is_learnt() -> None:
    nothing = EXAMPLES.take(slice(None))
    nothing.label[:] = np.where(np.isnan(nothing.label), np.nan, 0.0)
    with pytest.raises(TrainingError, match="0 training requests of which something was chosen"):
        train(pipeline, nothing, SLICES)
