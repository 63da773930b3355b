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
from workers.evaluation.metrics import point
from workers.examples.reading import Examples
from workers.releases.onnx_files import check_signature, first_line, run, session
from workers.training.candidate import (
    Candidate,
    choose_threshold,
    class_weights,
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
    parameters = pipeline.model.training()
    sliced = cut(examples, slices)
    classes = pipeline.predicts.classes
    require_support(sliced, pipeline.policies.retrain, classes)
    weights = class_weights(sliced.train.label, classes, parameters["positive_weight"])
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
    binary = pipeline.predicts.thresholds
    told_by = "average_precision" if binary else "accuracy"
    return Candidate(
        onnx=data,
        threshold=choose_threshold(scores, held.label) if binary else 0.5,
        normalisation={"mean": mean.tolist(), "scale": scale.tolist()},
        counts=sliced.counts,
        parameters=parameters | {name: _plain(one) for name, one in (learned.said or {}).items()},
        seed=training.seed,
        metrics={
            "validation": point(told_by, scores, held.label),
            "training_seconds": round(seconds, 3),
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
    """What is fitted to: its own slice, the one held out of it, and the weights by class."""
    parameters, rows = pipeline.model.training(), _rows(*slices[0], weights)
    return Training(
        rows.features,
        rows.labels,
        rows.weights,
        validation=_rows(*slices[1], weights),
        names=pipeline.feature_names,
        outputs=pipeline.model.outputs,
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
    _check_probabilities(learned.onnx, held)
    if learned.predict is not None:
        verify(learned, type(fit).__name__, held)
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


def _check_probabilities(data: bytes, vectors: NDArray[np.float32]) -> None:
    """Raise a `ModelError` where scores are no probabilities, or hang on their batch."""
    loaded = session(data)
    scores = run(loaded, vectors)
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
    several = vectors[:_ALONE]
    alone = np.concatenate([run(loaded, several[at : at + 1]) for at in range(len(several))])
    difference = float(np.abs(alone - run(loaded, several)).max(initial=0.0))
    if difference > TOLERANCE:
        raise ModelError(
            f"the ONNX file's scores of a vector differ by {difference:.2g} with what else is in "
            "the batch - make each row's depend on that row alone"
        )


def _rows(
    vectors: NDArray[np.float32], labels: NDArray[np.float32], weights: NDArray[np.float64]
) -> LabelledRows:
    classes = labels.astype(np.int64)
    return LabelledRows(np.ascontiguousarray(vectors), classes, weights[classes].astype(np.float32))


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
