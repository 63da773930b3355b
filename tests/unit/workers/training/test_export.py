"""Networks to ONNX: what is exported answers as torch does, and nothing else gets through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from streams.errors import ModelError, PipelineError
from streams.spec import Model
from streams.spec.layout import Layout
from tests.models import linear
from tests.synthetic import declare, pipeline
from workers.releases.onnx_files import check_signature, run, session
from workers.training.candidate import statistics
from workers.training.export import ExportedModel, build, export, verify
from workers.training.preparing import Normalise

SAMPLE = np.random.default_rng(3).normal(5, 3, (40, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def served() -> ExportedModel:
    torch.manual_seed(1)
    mean, scale = statistics(SAMPLE, pipeline.normalised)
    return ExportedModel(Normalise(mean, scale), build(pipeline), np.array([0.7]))


@pytest.fixture(scope="module")
def exported(served: ExportedModel) -> bytes:
    return export(served, Layout.of(4))


def test_statistics_leave_constant_and_unscaled_columns_alone() -> None:
    vectors = np.column_stack([np.arange(10), np.full(10, 7.0), np.arange(10)]).astype(np.float32)
    mean, scale = statistics(vectors, (True, True, False))
    assert mean.tolist() == [4.5, 7.0, 0.0]
    assert scale == pytest.approx([np.std(np.arange(10)), 1.0, 1.0])


def test_a_large_constant_column_is_not_scaled_by_its_rounding_noise() -> None:
    _, scale = statistics(np.full((1000, 1), 1234567.8, np.float32), (True,))
    assert scale.tolist() == [1.0]


def test_the_offset_is_added_to_the_logits(served: ExportedModel) -> None:
    vectors = torch.from_numpy(SAMPLE)
    with torch.no_grad():
        served.eval()
        logits = served.network(served.normalise(vectors))
        assert torch.allclose(served(vectors), torch.sigmoid(logits + 0.7))


def test_the_export_answers_as_torch_does_for_any_batch(
    served: ExportedModel, exported: bytes
) -> None:
    verify(exported, served, SAMPLE)
    check_signature(exported, Layout.of(4), 1)
    assert run(session(exported), SAMPLE[:1]).shape == (1, 1)


def test_the_export_repeats_byte_for_byte_and_holds_no_paths(
    served: ExportedModel, exported: bytes
) -> None:
    assert export(served, Layout.of(4)) == exported
    assert b"site-packages" not in exported
    assert b".py" not in exported


def test_another_module_is_noticed(exported: bytes) -> None:
    torch.manual_seed(2)
    mean, scale = statistics(SAMPLE, pipeline.normalised)
    other = ExportedModel(Normalise(mean, scale), build(pipeline), np.zeros(1))
    with pytest.raises(ModelError, match="differs from torch"):
        verify(exported, other, SAMPLE)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (lambda features: nn.Linear(features, 3), r"to \[2, 3\], expected \[2, 1\]"),
        (lambda features: nn.Linear(features + 1, 1), "fails on"),
        (lambda features: "no module", "not a torch.nn.Module"),
    ],
)
def test_a_network_that_does_not_fit_is_named(factory: object, said: str) -> None:
    wrong = declare()
    object.__setattr__(wrong, "model", Model(network=factory))  # type: ignore[arg-type]
    with pytest.raises(PipelineError, match=said):
        build(wrong)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (linear(5), "takes"),
        (linear(4, name="other"), "takes"),
        (linear(4, outputs=2), r"answers \(1, 2\), expected \(1, 1\)"),
        (b"not an onnx file", "cannot load"),
    ],
)
def test_a_file_with_another_signature_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        check_signature(data, Layout.of(4), 1)


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ModelError, match="not with finite"):
        run(session(linear(4, bias=float("nan"))), SAMPLE)
