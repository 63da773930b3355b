"""Whether the parts of a pipeline agree with its task: what cannot work is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from streams.errors import PipelineError
from streams.spec.aggregates import LabelRate, Window
from streams.spec.candidates import Candidates
from streams.spec.estimators import Ready, Sklearn
from streams.spec.feedback import Feedback
from streams.spec.learning import Retrain
from streams.spec.model import Model
from streams.spec.policy import Decision, Policies
from streams.spec.rollout import Gate
from streams.spec.tasks import Task, TaskName

_OF_CLASSES_ALONE: dict[str, str] = {
    "decision.threshold": "decides nothing where {}",
    "decision.classes": "name classes, and {}",
    "feedback.classes": "name classes, and {}",
    "policies.evaluate.costs": "are those of decisions, and {}",
    "policies.evaluate.top": "looks for class 1, and {}",
    "policies.gate.floor": "is what a metric is to be above, and that of a number is an error",
    "policies.gate.alerts": "are decisions, and {}",
    "policies.retrain.least_positives": "are of a class, and {}",
}
"""What a pipeline that predicts no class may not declare, and why."""
_OF_RANKINGS_TOO = ("policies.gate.floor", "policies.retrain.least_positives")


class TaskParts(NamedTuple):
    """The parts of a pipeline that depend on its task."""

    model: Model
    feedback: Feedback
    decision: Decision
    policies: Policies


def task_of(declared: TaskName | None, model: Model, candidates: Candidates | None) -> Task:
    """What a pipeline predicts.

    Raises:
        PipelineError: its task is not known, or its model or its candidates are not of the task.
    """
    if candidates is None and declared == "ranking":
        mend = 'write candidates=Candidates("items", key="item")'
        raise PipelineError("candidates", "are missing, and the task is ranking", mend)
    if candidates is None:
        return Task.of(declared, model.outputs, model.quantiles)
    if declared != "ranking":
        raise PipelineError("candidates", "are of a ranking alone", 'write task="ranking"')
    if model.quantiles or model.outputs not in (1, candidates.most):
        raise PipelineError(
            "model.outputs", f"is {model.outputs}, and candidates have one each", "leave it out"
        )
    return Task("ranking", candidates.most, top=candidates.top)


def check_label_rates(
    windows: Sequence[Window], feedback: Feedback, candidates: Candidates | None
) -> None:
    """Raise a `PipelineError` unless each window of labels can be known when it is read."""
    for window in windows:
        if not isinstance(window, LabelRate):
            continue
        if candidates is not None:
            raise PipelineError(
                f"features.{window.label}",
                "is of one label an event, and each candidate has its own",
                "leave it out",
            )
        if window.newest < feedback.horizon_seconds:
            raise PipelineError(
                f"features.{window.label}.delay",
                f"{window.delay} is shorter than feedback.horizon",
                "labels are not known earlier: use the horizon or more",
            )
        number = window.class_
        if number is not None and number >= (named := len(feedback.classes)):
            raise PipelineError(
                f"features.{window.label}.class_",
                f"feedback.classes names {named}, and none is {number}",
                "use the index of one of them, from 0 on",
            )


def settled(task: Task, parts: TaskParts) -> dict[str, Any]:
    """The parts that were left at their defaults and are others for this task, by name."""
    if task.classes:
        return {}
    feedback, policies = parts.feedback, parts.policies
    found: dict[str, Any] = {}
    if task.ranks:
        found["model"] = replace(parts.model, outputs=task.outputs)
        if feedback.missing is None:
            feedback = found["feedback"] = replace(feedback, missing=0.0)
    if feedback.classes == _default(Feedback, "classes"):
        found["feedback"] = replace(feedback, classes=())
    if policies.gate.metric == _default(Gate, "metric"):
        gate = replace(policies.gate, metric=task.metrics[0])
        found["policies"] = replace(policies, gate=gate)
    return found


def check_agreement(task: Task, parts: TaskParts) -> None:
    """Raise a `PipelineError` unless these parts are what the task can work with."""
    _check_training(task, parts.model)
    if parts.model.fit is not None:
        _check_fit(task, parts.model, parts.policies.retrain)
    _check_gate(task, parts.policies.gate)
    _check_labels(task, parts.feedback)
    low, high = (0.0, 1.0) if task.classes else (float("-inf"), float("inf"))
    if not low <= (score := parts.policies.fallback.score) <= high:
        raise PipelineError(
            "policies.fallback.score", f"{score} is not a probability", "use a number from 0 to 1"
        )
    if task.classes:
        _check_classes(task, parts)
    else:
        _check_no_classes(task, parts)
    if task.ranks:
        _check_ranking(parts)


def _check_training(task: Task, model: Model) -> None:
    for name in model.parameters:
        if not task.trains_with(name):
            raise PipelineError(
                f"model.parameters.{name}", f"means nothing to task={task.name!r}", "leave it out"
            )


def _check_fit(task: Task, model: Model, retrain: Retrain) -> None:
    if task.quantiles and isinstance(model.fit, Ready):
        raise PipelineError(
            "model.quantiles",
            f"are not predicted by {type(model.fit).__name__}",
            "leave them out, or give network=factory",
        )
    if retrain.warm_start and isinstance(model.fit, Sklearn):
        raise PipelineError(
            "policies.retrain.warm_start",
            "is for networks, boosted trees and functions; Sklearn's begin anew",
            "leave it out",
        )
    if retrain.processes > 1:
        raise PipelineError(
            "policies.retrain.processes",
            f"{retrain.processes} train a network together, and model.fit is fitted by one",
            "leave it out",
        )


def _check_gate(task: Task, gate: Gate) -> None:
    if gate.metric not in task.metrics:
        mend = f"use {', '.join(task.metrics)}"
        if gate.metric == "pinball" and task.numeric:
            mend = "name model.quantiles, or " + mend
        raise PipelineError(
            "policies.gate.metric", f"{gate.metric} is none of task={task.name!r}", mend
        )


def _check_labels(task: Task, feedback: Feedback) -> None:
    missing, names = feedback.missing, feedback.classes
    if missing is not None and names and missing not in range(len(names)):
        raise PipelineError(
            "feedback.missing",
            f"{missing} is not a class index",
            f"use 0 to {len(names) - 1}, or None" + _or_value(task),
        )


def _or_value(task: Task) -> str:
    return ', or task="value" where labels are numbers' if task.name == "binary" else ""


def _check_classes(task: Task, parts: TaskParts) -> None:
    named = {"decision": parts.decision.classes, "feedback": parts.feedback.classes}
    for part, names in named.items():
        if len(set(names)) != task.classes and (names or part == "decision"):
            raise PipelineError(
                f"{part}.classes", f"names {len(set(names))} of {task.classes}", _name_each(task)
            )
    decided, labelled = named.values()
    if set(decided) == set(labelled) and tuple(decided) != tuple(labelled):
        raise PipelineError(
            "feedback.classes",
            f"{labelled} are decision.classes in another order",
            "name the classes in the same order in both: by what their label is, from 0 on",
        )
    if parts.decision.threshold is not None and not task.thresholds:
        raise PipelineError(
            "decision.threshold",
            f"decides nothing with {task.classes} classes: the best one wins",
            "leave it out",
        )
    if parts.policies.rollout.gradual and not labelled:
        raise PipelineError(
            "policies.rollout",
            "compares versions by labels that are classes, and feedback.classes is empty",
            "name the classes there, or leave the policy out",
        )
    parts.policies.evaluate.check_costs(task.classes)


def _name_each(task: Task) -> str:
    return "name each class once" + _or_value(task)


def _check_no_classes(task: Task, parts: TaskParts) -> None:
    where: Mapping[str, object] = {
        "decision": parts.decision,
        "feedback": parts.feedback,
        "policies.evaluate": parts.policies.evaluate,
        "policies.gate": parts.policies.gate,
        "policies.retrain": parts.policies.retrain,
    }
    said = "candidates are ranked" if task.ranks else "a number is predicted"
    for path, problem in _OF_CLASSES_ALONE.items():
        if task.ranks and path in _OF_RANKINGS_TOO:
            continue
        part, _, name = path.rpartition(".")
        usual = () if path == "feedback.classes" else _default(type(where[part]), name)
        if getattr(where[part], name) != usual:
            raise PipelineError(path, problem.format(said), "leave it out")
    if task.numeric and parts.policies.rollout.gradual and parts.model.onnx is not None:
        raise PipelineError(
            "policies.rollout",
            "scales errors by those of training, and model.onnx was trained elsewhere",
            "give network=factory, or leave the policy out",
        )


def _check_ranking(parts: TaskParts) -> None:
    if parts.model.fit is not None:
        raise PipelineError(
            "model.fit", "learns one label an event, and a ranking has several", "give network="
        )
    if parts.policies.rollout.gradual:
        raise PipelineError(
            "policies.rollout",
            "compares losses of single labels, and a ranking has none",
            "leave it out: the gate compares rankings",
        )
    if parts.feedback.missing is None or parts.feedback.missing < 0:
        raise PipelineError(
            "feedback.missing", f"{parts.feedback.missing} is below 0", "use 0: what nobody chose"
        )


def _default(part: Any, name: str) -> object:
    [found] = [one.default for one in fields(part) if one.name == name]
    return found
