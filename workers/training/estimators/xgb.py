"""`XGBoost(...)`: fitted, and converted by onnxmltools."""

from __future__ import annotations

import warnings

import numpy as np
import xgboost
from numpy.typing import NDArray
from onnxmltools.convert import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from streams.spec.estimators import LabelledRows, Training, XGBoost
from streams.spec.model import INPUT
from workers.training.estimators.boosted import (
    Boosting,
    Objectives,
    as_scores,
    in_columns,
    refuse_unused,
    settings,
)
from workers.training.estimators.learned import Learned, not_exported
from workers.training.kept import kept

_OBJECTIVES = Objectives(
    "binary:logistic", "multi:softprob", "reg:squarederror", "reg:absoluteerror"
)
PACKAGES = ("xgboost", "onnxmltools")


def learn(declared: XGBoost, training: Training) -> Learned:
    """Fit and convert.

    Raises:
        PipelineError: a parameter is not one of XGBoost's.
        ModelError: onnxmltools does not convert what came out, as trees of `dart`.
    """
    asked = settings(declared, training.classes)
    given = {
        **_OBJECTIVES.chosen(training),
        "nthread": training.threads,
        "seed": training.seed,
        **asked.parameters,
    }
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = xgboost.train(
            given,
            _matrix(training),
            asked.rounds,
            evals=[(_matrix(training.validation), "validation")] if asked.patience else [],
            early_stopping_rounds=asked.patience,
            verbose_eval=False,
            xgb_model=_begun(asked, training),
        )
    refuse_unused(declared, [str(one.message) for one in told])
    if asked.patience:
        found = found[: found.best_iteration + 1]
    try:
        width = training.features.shape[1]
        types = [(INPUT, FloatTensorType([None, width]))]
        model = convert_xgboost(found, name="model", initial_types=types)
    except Exception as error:  # its exceptions have no common root
        raise not_exported("XGBoost's model", error) from error
    data = as_scores(model, training)

    def predict(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        return in_columns(found.predict(xgboost.DMatrix(vectors, nthread=training.threads)))

    said = {**declared.parameters, "trees": found.num_boosted_rounds()}
    own = bytes(found.save_raw("ubj"))
    return Learned(data, predict, {"estimator": "XGBoost", **said}, PACKAGES, (asked.kind, own))


def _begun(asked: Boosting, training: Training) -> xgboost.Booster | None:
    """The champion's trees, where there are any to go on with."""
    if (held := kept(training.champion, asked.kind)) is None:
        return None
    found = xgboost.Booster()
    found.load_model(bytearray(held))
    return found if asked.goes_on(found.num_boosted_rounds()) else None


def _matrix(rows: LabelledRows) -> xgboost.DMatrix:
    return xgboost.DMatrix(rows.features, rows.labels, weight=rows.weights)
