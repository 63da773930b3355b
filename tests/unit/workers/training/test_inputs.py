"""Networks that take images and texts: learned from, exported, and one line where they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streams.errors import PipelineError
from streams.spec import Model, Pipeline
from streams.spec.layout import MEANT
from tests.unit.streams.scoring.test_inputs import PIPELINE
from workers.evaluation.opponent import evaluate
from workers.examples.reading import Examples
from workers.releases.manifests import blank
from workers.releases.onnx_files import check_signature, session
from workers.releases.probes import probes
from workers.training.epochs import How
from workers.training.export import ExportedModel, build, export, verify
from workers.training.fit import train
from workers.training.preparing import Normalise, preparing
from workers.training.slices import Spans

PER_SLICE = 2000


class Two(nn.Module):
    """Takes all three tensors."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.words = nn.Embedding(99, 4, padding_idx=0)
        self.last = nn.Linear(features + 4 + 4, 1)

    def forward(self, features: Tensor, photo: Tensor, note: Tensor) -> Tensor:
        flat = photo.flatten(1)
        given = torch.cat([features, flat, self.words(note).mean(dim=1)], dim=1)
        return torch.as_tensor(self.last(given))


def with_network(network: Any) -> Pipeline:
    parameters = {"epochs": 15, "learning_rate": 0.03, "batch_size": 64, "patience": 30}
    return replace(PIPELINE, model=Model(network=network, parameters=parameters))


def examples(pipeline: Pipeline) -> Examples:
    """Bright photos are of class 1, whatever else."""
    random, count = np.random.default_rng(3), 3 * PER_SLICE
    photos = random.integers(0, 256, (count, 2, 2))
    inputs = {"photo": photos, "note": random.integers(0, 99, (count, 3))}
    features = random.normal(100, 30, (count, 2)).astype(np.float32)
    rows = pipeline.layout.rows(features, inputs)
    names = np.array([f"p{i}" for i in range(count)], object)
    return Examples(
        event_id=names,
        key=names,
        event_time=np.arange(count, dtype=np.float64),
        rows=rows,
        label=(photos.mean(axis=(1, 2)) > 128).astype(np.float32),
        labelled_at=np.arange(count, dtype=np.float64),
        version=np.zeros(count, np.int64),
        score=np.zeros((count, 1), np.float32),
        origin=names,
    )


SPANS = Spans((0, PER_SLICE), (PER_SLICE, 2 * PER_SLICE), (2 * PER_SLICE, 3 * PER_SLICE))


def test_it_learns_from_what_the_photo_shows() -> None:
    pipeline = with_network(Two)
    few = replace(pipeline.policies.retrain, least_examples=100)
    pipeline = replace(pipeline, policies=replace(pipeline.policies, retrain=few))
    found, given = train(pipeline, examples(pipeline), SPANS, How()), examples(pipeline)
    check_signature(found.onnx, pipeline.layout, 1)
    held = given.between(*SPANS.evaluate)
    assert ((evaluate(found.onnx, held)[:, 0] > 0.5) == held.label).mean() > 0.9
    assert train(pipeline, given, SPANS, How()).onnx == found.onnx
    named = [(one.name, one.type) for one in session(found.onnx).get_inputs()]
    assert named == [(one.name, MEANT[one.dtype].onnx) for one in pipeline.layout.tensors]


def test_the_export_answers_as_torch_does() -> None:
    pipeline = with_network(Two)
    torch.manual_seed(1)
    prepare = preparing(pipeline.layout, Normalise(np.ones(2), np.full(2, 3.0)))
    model = ExportedModel(prepare, build(pipeline), np.zeros(1))
    rows = probes(pipeline, blank(pipeline))
    assert len(np.unique(rows["photo"])) > 50
    assert rows["note"].max() < 99
    verify(export(model, pipeline.layout), model, rows)


class Misnamed(nn.Module):
    def forward(self, features: Tensor, picture: Tensor, note: Tensor) -> Tensor:
        return features[:, :1] + picture.mean() + note.sum()


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (lambda features: nn.Linear(features, 1), r"forward\(self, features, photo, note\)"),
        (lambda features: Misnamed(), "unexpected keyword argument 'photo'"),
    ],
)
def test_a_network_that_takes_something_else_is_told_so(network: Any, said: str) -> None:
    with pytest.raises(PipelineError, match=said) as error:
        build(with_network(network))
    assert "[2, 2], [2, 2, 2], [2, 3]" in str(error.value)


def test_one_input_alone_is_given_by_place() -> None:
    image = next(one for one in PIPELINE.inputs if one.name == "photo")
    pipeline = replace(with_network(lambda features: Flat()), features=[], inputs=[image])
    assert isinstance(build(pipeline), Flat)


class Flat(nn.Module):
    """Takes an image [n, 1, 2, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == (1, 2, 2)
        found: Tensor = self.last(x.flatten(1))
        return found
