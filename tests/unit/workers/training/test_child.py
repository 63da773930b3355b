"""What the training process tells the gate."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.models import linear, manifest
from tests.synthetic import DAY, in_columns, made, pipeline, scores_of
from workers.evaluation.gate import decide
from workers.evaluation.history import Gain, History
from workers.releases.onnx_files import run, session
from workers.releases.repository import Repository
from workers.training.child import _case, _reference
from workers.training.job import Job
from workers.training.slices import cut, slices_at


def test_the_gate_is_told_of_champion_anchor_and_earlier_candidates(tmp_path: Path) -> None:
    repository = Repository(tmp_path, pipeline.name)
    manifests = {}
    for version, bias in ((1, 0.0), (2, 0.1)):
        data = linear(4, bias)
        manifests[version] = manifest(pipeline, version, data)
        files = {"model.onnx": data, "manifest.json": msgspec.json.encode(manifests[version])}
        repository.add(version, files)
    examples = in_columns(made())
    sliced = cut(examples, slices_at(pipeline.policies.retrain, float(examples.event_time[-1])))
    start = float(sliced.evaluate.event_time[0])
    before, beside = Gain((start - 9, start), 0.1, 0.1), Gain((start, start + 9), 0.2, 0.1)
    job = Job(
        "synthetic",
        {},
        champion=2,
        champion_manifest=manifests[2],
        history=History(1, manifests[1], looks=2, run=(beside, before)),
    )
    scores = scores_of(sliced.evaluate.vector)
    case = _case(pipeline, repository, job, sliced, (scores, 0.4))
    assert (case.champion.version, case.anchor.version) == (2, 1)
    assert case.candidate.threshold == 0.4
    assert case.validation == np.count_nonzero(sliced.validate.label)
    assert case.earlier.run == (before,)
    assert case.entities is None
    found = decide(pipeline.policies.gate, case).evidence
    assert (found.champion.version, found.champion.windows) == (2, 2)
    assert (found.anchor.version, found.anchor.windows) == (1, 1)


def test_the_reference_is_of_training_and_its_scores_of_what_was_held_out() -> None:
    examples = in_columns(made(12.0))
    spans = slices_at(pipeline.policies.retrain, float(examples.event_time[-1]))
    sliced = cut(examples, spans)
    data = linear(4)
    with capture_logs() as logs:
        found = _reference(pipeline, data, sliced, spans, seed=1)
    assert [(line["whole_buckets"], line["needed"]) for line in logs] == [(3, 8)]
    assert found is not None
    assert list(found.columns) == ["a", "b", "c", "constant", "score"]
    assert found.columns["constant"].low == found.columns["constant"].high == 7.0
    day = examples.event_time // DAY
    held_out = np.concatenate([sliced.validate.vector, sliced.evaluate.vector])
    assert sum(found.columns["score"].counts) < len(held_out)
    assert found.columns["score"].mean == pytest.approx(
        float(run(session(data), held_out).mean()), abs=0.01
    )
    whole = day[(day * DAY >= spans.train[0]) & ((day + 1) * DAY <= spans.train[1])]
    assert sum(found.columns["a"].counts) == len(whole)
    assert found.buckets == len(np.unique(whole))


def test_a_version_that_gives_no_numbers_has_no_reference() -> None:
    examples = in_columns(made())
    spans = slices_at(pipeline.policies.retrain, float(examples.event_time[-1]))
    broken = linear(4, bias=float("nan"))
    with capture_logs() as logs:
        assert _reference(pipeline, broken, cut(examples, spans), spans, seed=1) is None
    assert [line["event"] for line in logs] == ["no reference to tell a drift by"]
