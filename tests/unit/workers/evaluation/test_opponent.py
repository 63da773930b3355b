"""A version's scores of the evaluation slice: anew, as it served, or none and why."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from streams.records import Example
from streams.spec.tasks import BINARY
from tests.models import linear, manifest
from tests.synthetic import in_columns, made, pipeline
from workers.evaluation.opponent import opponent, threshold
from workers.releases.manifests import gate_rules, model_card
from workers.releases.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path, pipeline.name)


def served_by(version: int, examples: list[Example]) -> list[Example]:
    """Half of them, scored by this version."""
    return [
        msgspec.structs.replace(one, version=version * (number % 2), score=0.25)
        for number, one in enumerate(examples)
    ]


def test_no_version_is_none(repository: Repository) -> None:
    assert opponent(pipeline, repository, 0, None, in_columns(made(1))).scores is None


def test_a_version_scores_all_anew(repository: Repository) -> None:
    data = linear(4)
    said = manifest(pipeline, 2, data, threshold=0.3)
    repository.add(2, {"model.onnx": data, "manifest.json": msgspec.json.encode(said)})
    found = opponent(pipeline, repository, 2, said, in_columns(made(1)))
    assert (found.version, found.threshold, found.problem) == (2, 0.3, "")
    assert found.served is None
    assert found.scores is not None
    assert len(found.scores) == 500


def test_a_version_whose_file_is_gone_comes_with_what_it_served(repository: Repository) -> None:
    examples = in_columns(served_by(2, made(1)))
    found = opponent(pipeline, repository, 2, manifest(pipeline, 2, b"gone"), examples)
    assert found.served is not None
    assert found.scores is not None
    assert found.served.sum() == 250
    assert (found.scores[found.served] == np.float32(0.25)).all()
    assert found.problem


def test_a_version_that_served_none_of_them_says_why(repository: Repository) -> None:
    other = manifest(pipeline, 2, b"", schema_hash="another", columns={})
    found = opponent(pipeline, repository, 2, other, in_columns(made(1)))
    assert found.scores is None
    assert "trained on other features" in found.problem


def test_a_version_decides_by_its_own_threshold_where_none_is_declared() -> None:
    assert threshold(pipeline, 0.3) == 0.3


def test_the_card_names_every_rule_with_its_number() -> None:
    metrics = {
        "average_precision": 0.7,
        "gate": -1.0,
        "gate.worse": -0.02,
        "gate.worse.bound": 0.0,
        "gate.worse.verdict": -1.0,
        "gate.threshold.verdict": 1.0,
    }
    assert gate_rules(metrics) == [
        ("worse", "failed", "-0.02", "0"),
        ("threshold", "passed", "-", "-"),
    ]
    card = model_card(manifest(pipeline, 1, b"", metrics=metrics), "The gate said reject.", BINARY)
    assert "| worse | failed | -0.02 | 0 |" in card
    assert "gate.worse" not in card
