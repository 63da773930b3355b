"""Tasks: what each means, and what of a declaration cannot work with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from streams.spec import (
    Decision,
    Evaluate,
    Fallback,
    Feedback,
    Gate,
    Model,
    Policies,
    Retrain,
    RollOut,
)
from streams.spec.tasks import Task
from tests.unit.pipelines import declare, refused

VALUE: dict[str, Any] = {
    "task": "value",
    "model": Model(network=print, quantiles=(0.5, 0.95)),
    "feedback": Feedback(horizon="1h"),
}
ONE_VALUE = VALUE | {"model": Model(network=print)}


def test_a_value_has_no_classes_and_its_own_metric() -> None:
    pipeline = declare(**VALUE)
    assert pipeline.predicts == Task("value", 3, (0.5, 0.95))
    assert pipeline.model.outputs == 3
    assert pipeline.feedback.classes == ()
    assert pipeline.policies.gate.metric == "wape"
    assert declare(**ONE_VALUE).predicts.outputs == 1


def test_left_out_the_outputs_tell_the_task() -> None:
    names = ("a", "b", "c")
    several = declare(
        model=Model(network=print, outputs=3),
        decision=Decision(classes=names),
        feedback=Feedback(horizon="1h", classes=names),
    )
    assert declare().predicts == Task("binary", 1)
    assert several.predicts == Task("multiclass", 3)
    assert several.policies.gate.metric == "average_precision"


def test_labels_and_scores_are_told_by_the_task() -> None:
    binary, value = Task("binary", 1), Task("value", 2, (0.9,))
    assert [binary.is_label(one) for one in (1.0, 0.5, -1.0)] == [True, False, False]
    assert [value.is_label(one) for one in (1.0, -0.5, math.inf)] == [True, True, False]
    assert [binary.is_score(one) for one in (0.5, 1.5, [0.5, 0.5])] == [True, False, False]
    assert [value.is_score(one) for one in ([-3.0, 9.5], 1.0, [1.0, math.nan])] == [
        True,
        False,
        False,
    ]


def test_what_a_value_may_be() -> None:
    """Any finite number is a fallback, and stands for no label."""
    pipeline = declare(
        **VALUE
        | {
            "feedback": Feedback(horizon="1h", missing=-12.5),
            "policies": Policies(fallback=Fallback(score=99.5), gate=Gate(metric="pinball")),
        }
    )
    assert pipeline.feedback.missing == -12.5
    assert pipeline.policies.gate.metric == "pinball"


def of_value(**policies: Any) -> dict[str, Any]:
    return VALUE | {"policies": Policies(**policies)}


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"task": "regression"}, "task", "use one of: binary, multiclass, value"),
    ({"task": ["value"]}, "task", "use one of"),
    ({"task": "multiclass"}, "model.outputs", "one for each class"),
    ({"task": "binary", "model": Model(network=print, outputs=3)}, "model.outputs", "leave it out"),
    ({"model": Model(network=print, quantiles=(0.5,))}, "model.quantiles", 'task="value"'),
    (
        VALUE | {"model": Model(network=print, outputs=4, quantiles=(0.5,))},
        "model.outputs",
        "name quantiles",
    ),
    (VALUE | {"decision": Decision(threshold=0.5)}, "decision.threshold", "leave it out"),
    (VALUE | {"decision": Decision(classes=("a", "b"))}, "decision.classes", "leave it out"),
    (
        VALUE | {"feedback": Feedback(horizon="1h", classes=("a", "b"))},
        "feedback.classes",
        "leave it out",
    ),
    (of_value(evaluate=Evaluate(costs=((0, 1), (5, 0)))), "policies.evaluate.costs", "leave"),
    (of_value(evaluate=Evaluate(top=5)), "policies.evaluate.top", "leave it out"),
    (of_value(gate=Gate(floor=0.1)), "policies.gate.floor", "leave it out"),
    (of_value(gate=Gate(alerts=2.0)), "policies.gate.alerts", "leave it out"),
    (of_value(gate=Gate(metric="roc_auc")), "policies.gate.metric", "use wape, mae, rmse, pinball"),
    (of_value(retrain=Retrain(least_positives=5)), "policies.retrain.least_positives", "leave"),
    (
        ONE_VALUE | {"policies": Policies(gate=Gate(metric="pinball"))},
        "policies.gate.metric",
        "name model.quantiles",
    ),
    (
        VALUE | {"model": Model(network=print, parameters={"positive_weight": 2})},
        "model.parameters.positive_weight",
        "leave it out",
    ),
    (
        {"model": Model(network=print, parameters={"point_loss": "huber"})},
        "model.parameters.point_loss",
        "leave it out",
    ),
    ({"policies": Policies(gate=Gate(metric="mae"))}, "policies.gate.metric", "use average_pre"),
    (
        VALUE | {"model": Model(onnx=Path("m.onnx")), "policies": Policies(rollout=RollOut())},
        "policies.rollout",
        "give network=factory",
    ),
]


@pytest.mark.parametrize(("changes", "field", "mend"), MISTAKES)
def test_what_cannot_work_is_refused_in_one_line(
    changes: dict[str, Any], field: str, mend: str
) -> None:
    said = refused(**changes)
    assert said.startswith(f"{field}: ")
    assert mend in said
