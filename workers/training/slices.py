"""Which examples train, validate and evaluate: consecutive spans of event time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.errors import TrainingError
from streams.spec import Retrain
from streams.spec.tasks import Task
from workers.examples.reading import Examples

Span = tuple[float, float]
"""Event time [from, to), seconds since 1970 (UTC)."""
Labels = NDArray[np.float32]


@dataclass(frozen=True)
class Spans:
    """Three consecutive spans without overlap; training never sees the later ones."""

    train: Span
    validate: Span
    """Early stopping and the threshold come from it."""
    evaluate: Span
    """Candidate and champion are compared on it; nothing is chosen on it."""

    def as_manifest(self) -> dict[str, list[float]]:
        """As a manifest names them."""
        return {
            "train": list(self.train),
            "validate": list(self.validate),
            "evaluate": list(self.evaluate),
        }

    @staticmethod
    def from_manifest(slices: dict[str, list[float]]) -> Spans:
        """The inverse of `as_manifest`."""
        spans = {name: (span[0], span[1]) for name, span in slices.items()}
        return Spans(spans["train"], spans["validate"], spans["evaluate"])


def slices_at(policy: Retrain, watermark: float) -> Spans:
    """The slices of a candidate made when labels are mature up to `watermark` (inclusive)."""
    end = math.nextafter(watermark, math.inf)
    evaluate = watermark - policy.evaluate_seconds
    validate = evaluate - policy.validate_seconds
    start = watermark - policy.window_seconds
    return Spans((start, validate), (validate, evaluate), (evaluate, end))


@dataclass(frozen=True)
class Sliced:
    """The examples of each slice."""

    train: Examples
    validate: Examples
    evaluate: Examples

    @property
    def counts(self) -> dict[str, list[int]]:
        """Slice -> [examples, positives]; positives are examples of any label but 0, or requests
        of which something was chosen."""
        parts = {"train": self.train, "validate": self.validate, "evaluate": self.evaluate}
        return {
            name: [len(part), int(np.count_nonzero(largest(part.label)))]
            for name, part in parts.items()
        }


def cut(examples: Examples, slices: Spans) -> Sliced:
    """The examples of each slice; those outside all of them are left out."""
    return Sliced(
        examples.between(*slices.train),
        examples.between(*slices.validate),
        examples.between(*slices.evaluate),
    )


def largest(labels: Labels) -> Labels:
    """Labels [n] as they are; of those of candidates [n, most] each request's largest."""
    found: Labels = labels if labels.ndim == 1 else np.nanmax(labels, axis=1, initial=0.0)
    return found


def require_support(sliced: Sliced, policy: Retrain, task: Task) -> None:
    """Check that there is enough to learn a task from.

    Raises:
        TrainingError: a slice is empty or too small; says which, and the setting.
    """
    classes = task.classes
    parts = (sliced.train, sliced.validate, sliced.evaluate)
    labels, validate, evaluate = (largest(part.label) for part in parts)
    if classes and not np.isin(labels, np.arange(classes)).all():
        odd = labels[~np.isin(labels, np.arange(classes))][0]
        raise TrainingError(
            f"label {odd:g} is not a class index 0 to {classes - 1} - check feedback and "
            "model.outputs"
        )
    if lacks := lacking(labels, validate, evaluate, policy, task):
        raise TrainingError(lacks)


def lacking(train: Labels, validate: Labels, evaluate: Labels, policy: Retrain, task: Task) -> str:
    """What there is too little of to learn from, and the setting, by each slice's labels.

    Of a ranking each request's largest. Empty where there is enough.
    """
    classes = task.classes
    if len(train) < policy.least_examples:
        return (
            f"{len(train)} training examples, policies.retrain.least_examples is "
            f"{policy.least_examples} - wait for more labels, or lower it"
        )
    if classes and (few := _rarest(train, classes)) < policy.least_positives:
        return (
            f"{few} training examples of the rarest class, policies.retrain.least_positives "
            f"is {policy.least_positives} - wait for more labels, or lower it"
        )
    if task.ranks:
        return _unchosen(train, validate, evaluate, policy)
    if len(np.unique(train)) < 2:
        return f"all {len(train)} training examples have one label - wait for others"
    for name, labels in (("validate", validate), ("evaluate", evaluate)):
        if len(np.unique(labels)) < 2:
            return (
                f"the {name} slice has {len(labels)} examples, all with one label - make "
                f"policies.retrain.{name} longer, or wait for more labels"
            )
    return ""


def _unchosen(train: Labels, validate: Labels, evaluate: Labels, policy: Retrain) -> str:
    least = max(1, policy.least_positives)
    if (few := int(np.count_nonzero(train))) < least:
        return (
            f"{few} training requests of which something was chosen, "
            f"policies.retrain.least_positives is {least} - wait for more labels, or lower it"
        )
    for name, labels in (("validate", validate), ("evaluate", evaluate)):
        if not labels.any():
            return (
                f"of the {len(labels)} requests of the {name} slice nothing was chosen - make "
                f"policies.retrain.{name} longer, or wait for more labels"
            )
    return ""


def _rarest(labels: Labels, classes: int) -> int:
    """Examples of the rarest class."""
    return min(int(np.count_nonzero(labels == one)) for one in range(classes))
