"""`Sklearn(factory)`: fitted, and converted by skl2onnx."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from streams.errors import PipelineError, TrainingError
from streams.spec.estimators import Sklearn, Training
from streams.spec.model import INPUT
from workers.training.estimators.graphs import OPSETS, renamed, selected
from workers.training.estimators.learned import Learned, not_exported

PACKAGES = ("scikit-learn", "skl2onnx")
_LONGEST = 500
"""Characters of the manifest's description."""


def learn(declared: Sklearn, training: Training) -> Learned:
    """Build, fit and convert.

    Raises:
        PipelineError: it gives no probabilities.
        TrainingError: it takes no weights, and some are given.
        ModelError: skl2onnx does not convert it.
    """
    estimator = declared.factory()
    name = type(estimator).__name__
    if not hasattr(estimator, "fit") or not hasattr(estimator, "get_params"):
        raise PipelineError(
            "model.fit",
            f"Sklearn's factory returns {name}, which is no estimator",
            "return one, not fitted: Sklearn(lambda: LogisticRegression())",
        )
    if training.classes and not hasattr(estimator, "predict_proba"):
        raise PipelineError(
            "model.fit",
            f"{name} has no predict_proba",
            "use a classifier that gives probabilities, or CalibratedClassifierCV around it",
        )
    _fill_in(estimator, training)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'n_jobs' has no effect")
        estimator.fit(training.features, training.labels, **_weights(estimator, training))
    try:
        model = convert_sklearn(
            estimator,
            name="model",
            initial_types=[(INPUT, FloatTensorType([None, training.features.shape[1]]))],
            options={"zipmap": False} if training.classes else None,
            target_opset=OPSETS,
        )
    except Exception as error:  # its exceptions have no common root
        raise not_exported(name, error) from error
    classes = [int(one) for one in estimator.classes_] if training.classes else []
    first, *others = [one.name for one in model.graph.output]
    if training.classes:
        data = selected(model, others[0], classes, training.outputs)
    else:
        data = renamed(model, first)

    def predict(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        if not classes:
            return np.asarray(estimator.predict(vectors), np.float64).reshape(-1, 1)
        found = np.zeros((len(vectors), max(2, training.outputs)))
        found[:, classes] = estimator.predict_proba(vectors)
        return found[:, 1:] if training.outputs == 1 else found

    return Learned(data, predict, {"estimator": _described(estimator)}, PACKAGES)


def _fill_in(estimator: Any, training: Training) -> None:
    """Set what it leaves open of seeds and threads, in all its parts."""
    open_ = {name for name, value in estimator.get_params(deep=True).items() if value is None}
    filled = {"random_state": training.seed, "n_jobs": training.threads}
    chosen = {
        name: filled[last] for name in sorted(open_) if (last := name.split("__")[-1]) in filled
    }
    estimator.set_params(**chosen)


def _weights(estimator: Any, training: Training) -> dict[str, Any]:
    """The argument of `fit` that carries the weights; none where all are alike."""
    if np.all(training.weights == training.weights[0]):
        return {}
    last, before = estimator, ""
    while isinstance(last, Pipeline):
        before, last = f"{before}{last.steps[-1][0]}__", last.steps[-1][1]
    if not has_fit_parameter(last, "sample_weight"):
        raise TrainingError(
            f"{type(last).__name__} takes no weights - leave positive_weight out of "
            "model.parameters"
        )
    return {f"{before}sample_weight": training.weights}


def _described(estimator: Any) -> str:
    return " ".join(estimator.__repr__(N_CHAR_MAX=_LONGEST).split())
