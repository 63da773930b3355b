"""Fitting what `Model(fit=...)` declares to a candidate: a pure function, as with a network."""

from __future__ import annotations

import contextlib
import importlib
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import DriftloopError, ModelError, TrainingError
from streams.spec import Pipeline
from streams.spec.estimators import LabelledRows, LightGBM, Ready, Sklearn, Training, Value, XGBoost
from streams.spec.tasks import Task
from workers.evaluation.metrics import point
from workers.evaluation.values import loss_bound
from workers.examples.reading import Examples
from workers.releases.onnx_files import check_signature, first_line, run, session
from workers.training.candidate import (
    Candidate,
    choose_threshold,
    label_numbers,
    statistics,
    versions,
)
from workers.training.estimators.graphs import corrected
from workers.training.estimators.learned import TOLERANCE, Learned, verify
from workers.training.kept import with_kept
from workers.training.slices import Spans, cut, require_support

Columns = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Vectors [n, features] and labels [n] of a slice."""
_ALONE = 32
"""Vectors that are scored one by one, too."""


def train(
    pipeline: Pipeline,
    examples: Examples,
    slices: Spans,
    threads: int = 1,
    champion: bytes | None = None,
) -> Candidate:
    """Train a candidate on the training slice; the evaluation slice is not looked at.

    The same arguments give the same bytes on the same machine, as far as a function of the
    author's does. It begins from the champion's file, where one is given.

    Raises:
        TrainingError: too few examples or positives, or fitting fails.
        ModelError: what was fitted cannot be exported, or is not what a pipeline serves.
        PipelineError: the declaration asks for what is not there.
    """
    parameters = pipeline.training
    sliced = cut(examples, slices)
    classes = pipeline.predicts.classes
    require_support(sliced, pipeline.policies.retrain, pipeline.predicts)
    numbers = label_numbers(pipeline, sliced.train.label)
    weights = np.array(numbers if classes else [1.0])
    own, held = sliced.train, sliced.validate
    columns = (own.vector, own.label), (held.vector, held.label)
    training = replace(training_of(pipeline, columns, weights, threads), champion=champion)
    begun = time.monotonic()
    learned = fitted(pipeline, training)
    seconds = time.monotonic() - begun
    data = corrected(learned.onnx, weights)
    if pipeline.policies.retrain.warm_start and learned.kept is not None:
        data = with_kept(data, *learned.kept)
    scores = run(session(data), held.vector)
    mean, scale = statistics(own.vector, [True] * own.vector.shape[1])
    label = {} if classes else {"label": numbers}
    return Candidate(
        onnx=data,
        threshold=choose_threshold(scores, held.label) if pipeline.predicts.thresholds else 0.5,
        normalisation={"mean": mean.tolist(), "scale": scale.tolist(), **label},
        counts=sliced.counts,
        parameters={**parameters}
        | {name: _plain(one) for name, one in (learned.said or {}).items()},
        seed=training.seed,
        metrics={
            "validation": _quality(pipeline.predicts, scores, held.label),
            "training_seconds": round(seconds, 3),
            **loss_bound(pipeline.predicts, scores, held.label),
        },
        environment={
            **versions("onnx", "numpy", *learned.packages),
            "device": "cpu",
            "threads": str(threads),
        },
    )


def training_of(
    pipeline: Pipeline,
    slices: tuple[Columns, Columns],
    weights: NDArray[np.float64],
    threads: int = 1,
) -> Training:
    """What is fitted to: its own slice, the one held out of it, and the weights by class.

    There is one weight where labels are numbers.
    """
    parameters, rows = pipeline.training, _rows(*slices[0], weights)
    return Training(
        rows.features,
        rows.labels,
        rows.weights,
        validation=_rows(*slices[1], weights),
        names=pipeline.feature_names,
        outputs=pipeline.model.outputs,
        classes=pipeline.predicts.classes,
        seed=int(parameters["seed"]),
        threads=threads,
        parameters=parameters,
    )


def fitted(pipeline: Pipeline, training: Training) -> Learned:
    """Fit, and check that the file answers as it should before weights are corrected for.

    Raises:
        TrainingError: fitting fails.
        ModelError: the file is not what a pipeline serves, or differs from its library.
        PipelineError: the declaration asks for what is not there.
    """
    fit, held = pipeline.model.fit, training.validation.features
    assert fit is not None
    try:
        with _seeded(training.seed):
            learned = (
                _library(fit).learn(fit, training)
                if isinstance(fit, Ready)
                else Learned(_bytes(fit(training)))
            )
    except DriftloopError:
        raise
    except (Exception, SystemExit) as error:
        raise TrainingError(
            f"model.fit fails on {list(training.features.shape)}: {type(error).__name__}: "
            f"{first_line(error)} - correct it, or its parameters"
        ) from error
    check_signature(learned.onnx, pipeline.layout, pipeline.model.outputs)
    size = 1.0 if training.classes else float(np.abs(training.labels).max(initial=1.0))
    _check_scores(learned.onnx, held, training.classes, size)
    if learned.predict is not None:
        verify(learned, type(fit).__name__, held, size)
    return learned


_LIBRARIES: dict[type, tuple[str, str]] = {
    Sklearn: ("scikit", "train"),
    XGBoost: ("xgb", "boost"),
    LightGBM: ("lgbm", "boost"),
}
"""Of what is declared: the module that realises it, and the extra that brings its library."""


def _library(declared: Ready) -> Any:
    """The module that fits what is declared. Raises `TrainingError` where a library is missing."""
    name, extra = _LIBRARIES[type(declared)]
    try:
        return importlib.import_module(f"workers.training.estimators.{name}")
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"model.fit: {type(declared).__name__} needs {error.name}, which is not installed - "
            f"pip install 'driftloop[train,{extra}]'"
        ) from None


def _bytes(found: object) -> bytes:
    if not isinstance(found, bytes):
        raise TrainingError(
            f"model.fit returns {type(found).__name__}, expected bytes - return the ONNX file, as "
            "model.SerializeToString() gives it"
        )
    return found


def _check_scores(data: bytes, vectors: NDArray[np.float32], classes: int, size: float) -> None:
    """Raise a `ModelError` where scores of classes are no probabilities, or hang on their batch."""
    loaded = session(data)
    if classes:
        _check_probabilities(run(loaded, vectors))
    several = vectors[:_ALONE]
    alone = np.concatenate([run(loaded, several[at : at + 1]) for at in range(len(several))])
    difference = float(np.abs(alone - run(loaded, several)).max(initial=0.0))
    if difference > TOLERANCE * size:
        raise ModelError(
            f"the ONNX file's scores of a vector differ by {difference:.2g} with what else is in "
            "the batch - make each row's depend on that row alone"
        )


def _check_probabilities(scores: NDArray[np.float32]) -> None:
    low, high = float(scores.min(initial=0.0)), float(scores.max(initial=0.0))
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ModelError(
            f"the ONNX file gives scores from {low:.3g} to {high:.3g}, no probabilities - "
            "export it with its sigmoid or softmax"
        )
    if scores.shape[1] > 1 and not np.allclose(scores.sum(axis=1), 1.0, atol=1e-3):
        raise ModelError(
            f"the ONNX file gives {scores.shape[1]} scores that do not sum to 1 - give the "
            "probabilities of the classes, in the order of their indices"
        )


def _rows(
    vectors: NDArray[np.float32], labels: NDArray[np.float32], weights: NDArray[np.float64]
) -> LabelledRows:
    """Of vectors [n, f] and labels [n]; weights are those of classes, or one."""
    if len(weights) == 1:
        return LabelledRows(np.ascontiguousarray(vectors), labels, np.ones(len(labels), np.float32))
    classes = labels.astype(np.int64)
    return LabelledRows(np.ascontiguousarray(vectors), classes, weights[classes].astype(np.float32))


def _quality(task: Task, scores: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
    """Higher is better: as of a network's classes; of a value the mean error, negative."""
    if not task.classes:
        return -float(np.abs(scores[:, 0] - labels).mean(dtype=np.float64))
    return point("average_precision" if task.thresholds else "accuracy", scores, labels)


def _plain(value: Any) -> Value:
    """As a manifest can say it."""
    return value if isinstance(value, Value) and not isinstance(value, bool) else str(value)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's and NumPy's own generators, for what asks no other; as before, afterwards."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
