"""`LightGBM(...)`: fitted, and converted by onnxmltools."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import structlog
from numpy.typing import NDArray
from onnxmltools.convert import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from streams.spec.estimators import LabelledRows, LightGBM, Training
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

log = structlog.get_logger(__name__)

_OBJECTIVES = Objectives("binary", "multiclass", "regression", "regression_l1")
PACKAGES = ("lightgbm", "onnxmltools")
_REPRODUCIBLE = {"deterministic": True, "force_row_wise": True}


def learn(declared: LightGBM, training: Training) -> Learned:
    """Fit and convert.

    Raises:
        PipelineError: a parameter is not one of LightGBM's.
        ModelError: onnxmltools does not convert what came out.
    """
    asked = settings(declared, training.classes)
    given = {
        **_OBJECTIVES.chosen(training),
        **_REPRODUCIBLE,
        "num_threads": training.threads,
        "seed": training.seed,
        "verbosity": 0,
        **asked.parameters,
    }
    told = _Told()
    lightgbm.register_logger(told)
    rows = _dataset(training)
    stops: list[Callable[..., Any]] = []
    if asked.patience:
        stops.append(lightgbm.early_stopping(asked.patience, verbose=False))
    found = lightgbm.train(
        given,
        rows,
        asked.rounds,
        valid_sets=[_dataset(training.validation, rows)] if stops else None,
        callbacks=stops,
        init_model=_begun(asked, training),
    )
    refuse_unused(declared, told.lines)
    trees = found.best_iteration if asked.patience else found.current_iteration()
    text = found.model_to_string(num_iteration=trees)
    exact = lightgbm.Booster(model_str=_float32(text))
    try:
        width = training.features.shape[1]
        types = [(INPUT, FloatTensorType([None, width]))]
        model = convert_lightgbm(exact, name="model", initial_types=types, zipmap=False)
    except Exception as error:  # its exceptions have no common root
        raise not_exported("LightGBM's model", error) from error
    data = as_scores(model, training)

    def predict(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        return in_columns(found.predict(vectors, num_iteration=trees, num_threads=training.threads))

    said = {**declared.parameters, "trees": trees}
    own = text.encode()
    return Learned(data, predict, {"estimator": "LightGBM", **said}, PACKAGES, (asked.kind, own))


def _begun(asked: Boosting, training: Training) -> lightgbm.Booster | None:
    """The champion's trees, where there are any to go on with."""
    if (held := kept(training.champion, asked.kind)) is None:
        return None
    found = lightgbm.Booster(model_str=held.decode())
    return found if asked.goes_on(found.current_iteration()) else None


class _Told:
    """A logger that keeps what LightGBM says, once."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        """What the library itself says, warnings as well."""
        if text not in self.lines:
            self.lines.append(text)
            log.debug("LightGBM says", said=text.strip())

    warning = info


def _dataset(rows: LabelledRows, reference: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
    return lightgbm.Dataset(rows.features, rows.labels, reference, rows.weights)


def _float32(model: str) -> str:
    """A model's text with each threshold rounded down to a float32.

    LightGBM compares x <= threshold in float64, ONNX in float32. For every float32 x both say the
    same where the threshold is the largest float32 that is not above it. Rounded to the nearest, as
    the converter does, an x just above the threshold would go the other way.
    """
    model = re.sub(r"\ntree_sizes=.*\n", "\n", model)  # the lengths of the texts that follow
    return re.sub(r"\nthreshold=(.*)\n", lambda match: f"\nthreshold={_down(match[1])}\n", model)


def _down(numbers: str) -> str:
    exact = np.array(numbers.split(), np.float64)
    nearest = exact.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return " ".join(repr(float(one)) for one in np.where(nearest > exact, below, nearest))
