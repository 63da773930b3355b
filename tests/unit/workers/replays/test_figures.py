"""What a replay came to, of examples made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from streams.records import Example
from streams.spec import Decision, Feedback, Model, Pipeline
from streams.spec.layout import pack
from tests.unit.pipelines import declare
from workers.examples.reading import Examples, columns
from workers.releases.manifests import blank
from workers.releases.repository import Repository
from workers.replays.figures import NothingServed, early, figures, outcome

PIPELINE = declare()
LIMITS = np.full(4, 0.5, np.float32)


def floats(*rows: object) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def served(*versions: int) -> Examples:
    """An event each hour, answered by these versions."""
    width = len(PIPELINE.feature_names)
    made = [
        Example(
            event_id=f"e{n}",
            event_time=3600.0 * n,
            vector=pack(np.zeros((1, width), np.float32))[0],
            score=0.5,
            version=version,
            label=float(n % 2),
            labelled_at=3600.0 * n,
            origin="feedback",
            key="ann",
            schema=PIPELINE.schema_hash,
        )
        for n, version in enumerate(versions)
    ]
    return columns(made, PIPELINE)


def test_two_classes_have_accuracy_by_what_decided_and_two_ranks() -> None:
    scores, labels = floats([0.9], [0.4], [0.6], [0.1]), floats(1, 1, 0, 0)
    found = figures(PIPELINE, scores, labels, LIMITS)
    assert found == pytest.approx({"accuracy": 0.5, "AUC": 0.75, "AP": (1 + 2 / 3) / 2})
    assert figures(PIPELINE, scores, labels, LIMITS - np.float32(0.15))[
        "accuracy"
    ] == pytest.approx(0.75)
    assert figures(PIPELINE, scores, floats(1, 1, 1, 1), LIMITS) == {"accuracy": 0.5}


def test_several_classes_have_the_accuracy_of_the_best() -> None:
    names = ("a", "b", "c")
    three = declare(
        model=Model(network=lambda features: features, outputs=3),
        decision=Decision(classes=names),
        feedback=Feedback(horizon="1h", missing=0, keep="1h", classes=names),
        features=PIPELINE.features[:-1],
    )
    scores = floats([0.2, 0.5, 0.3], [0.6, 0.2, 0.2])
    assert figures(three, scores, floats(1, 2), LIMITS[:2]) == {"accuracy": 0.5}


def test_a_number_has_its_error_and_what_its_quantile_covers() -> None:
    value = Pipeline(
        name="sales",
        event=PIPELINE.event,
        cleaning=PIPELINE.cleaning,
        features=PIPELINE.features[:2],
        model=Model(network=lambda features: features, quantiles=(0.95,)),
        feedback=Feedback(horizon="1h"),
        task="value",
    )
    scores = floats([8.0, 12.0], [5.0, 6.0], [3.0, 3.0], [2.0, 9.0])
    found = figures(value, scores, floats(10, 5, 4, 1), LIMITS)
    assert found == pytest.approx({"WAPE": 4 / 20, "covered by 0.95": 0.75})


def test_a_version_that_knew_too_much_is_counted() -> None:
    learnt = replace(blank(PIPELINE), version=1, label_watermark=3600.0)  # known at two o'clock
    assert early(PIPELINE, served(0, 1, 1, 1), {1: learnt}) == 1
    assert early(PIPELINE, served(0, 0, 1, 1), {1: learnt}) == 0


def test_without_a_version_there_is_nothing_to_judge(tmp_path: object) -> None:
    repository = Repository(tmp_path, PIPELINE.name)  # type: ignore[arg-type]
    with pytest.raises(NothingServed, match="no version has served"):
        outcome(PIPELINE, repository, [], served(0, 0), sent=2, since=0.0)
