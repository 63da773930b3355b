"""What a `Model(fit=...)` may be: a function of the author's, or a classifier of a library.

Nothing here imports a library: a scoring worker imports the pipeline's file, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streams.errors import PipelineError
from streams.spec.functions import check_function

Value = float | int | str
"""Of a parameter."""


@dataclass(frozen=True)
class LabelledRows:
    """Examples in columns, by event time."""

    features: NDArray[np.float32]
    """[n, features] the plain vectors, as they are served."""
    labels: NDArray[Any]
    """[n] the index of the class, int64; of a value the number, float32."""
    weights: NDArray[np.float32]
    """[n] by class, what `positive_weight` says; 1 where it says nothing."""


@dataclass(frozen=True)
class Training(LabelledRows):
    """What a candidate is fitted to: its own rows are the training slice."""

    validation: LabelledRows
    """The slice after it: to stop early by."""
    names: tuple[str, ...]
    """Of the features, in order."""
    outputs: int
    """1 for a probability of class 1, k for k class probabilities; of a value 1, and its
    quantiles."""
    classes: int
    """How many classes a label may be of; 0 where it is a number."""
    seed: int
    """The same seed, rows and parameters have to give the same bytes."""
    threads: int
    """As many as the run may use."""
    parameters: Mapping[str, Value]
    """The model's."""
    champion: bytes | None = None
    """The champion's ONNX file, to begin from, where `policies.retrain.warm_start` asks for it."""


Fit = Callable[[Training], bytes]
"""Fits, and returns an ONNX file: `features` float32 [n, f] -> `scores` float32 [n, outputs]."""
BOOSTED_LOSSES = ("squared", "absolute")
"""Of a value: what boosted trees can be fitted to."""


@dataclass(frozen=True)
class Sklearn:
    """A classifier of scikit-learn, or a `Pipeline` that ends in one; of a value, a regressor.

    `Sklearn(lambda: make_pipeline(StandardScaler(), LogisticRegression()))`. skl2onnx converts it.
    What it leaves open of `random_state` and `n_jobs` is filled in with the seed and the threads.
    """

    factory: Callable[[], Any]
    """Builds it, not fitted; a classifier needs `predict_proba`."""

    def __post_init__(self) -> None:
        check_function(
            self.factory,
            "model.fit",
            "pass a function that builds it: Sklearn(lambda: LogisticRegression())",
            arguments=0,
        )


@dataclass(frozen=True, init=False)
class Boosted:
    """Boosted trees, by a library's own parameters."""

    parameters: Mapping[str, Any]
    """The library's parameters under its own names, given as keywords: `max_depth=3`."""
    ours: ClassVar[Mapping[str, str]] = {
        "objective": "the task says it, and of a value model.parameters point_loss",
        "num_class": "model.outputs says it",
        "scale_pos_weight": "give model.parameters positive_weight, so that scores are corrected",
        "is_unbalance": "give model.parameters positive_weight, so that scores are corrected",
        "seed": "give model.parameters seed",
        "random_state": "give model.parameters seed",
        "nthread": "the run's threads are used",
        "n_jobs": "the run's threads are used",
        "num_threads": "the run's threads are used",
    }
    """Parameters that an author does not give here, and what stands in for them."""

    def __init__(self, **parameters: Any) -> None:
        object.__setattr__(self, "parameters", parameters)
        name = type(self).__name__
        for one in self.ours.keys() & parameters.keys():
            raise PipelineError(f"model.fit.{one}", f"is not {name}'s to choose", self.ours[one])
        for one in ("n_estimators", "early_stopping_rounds"):
            value = parameters.get(one, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise PipelineError(
                    f"model.fit.{one}", f"{value!r} cannot be", "use a whole number, above 0"
                )


class XGBoost(Boosted):
    """Boosted trees of XGBoost: `XGBoost(n_estimators=50, max_depth=3, learning_rate=0.3)`.

    With `early_stopping_rounds` the validation slice says how many trees are kept.
    """


class LightGBM(Boosted):
    """Boosted trees of LightGBM: `LightGBM(n_estimators=50, num_leaves=15)`.

    With `early_stopping_rounds` the validation slice says how many trees are kept.
    """


Ready = Sklearn | XGBoost | LightGBM
