"""What XGBoost and LightGBM have in common: their parameters as declared."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
import structlog
from numpy.typing import NDArray

from streams.errors import PipelineError
from streams.spec.estimators import Boosted, Training
from workers.training.estimators.graphs import renamed, selected

log = structlog.get_logger(__name__)

_UNUSED = re.compile(r"Unknown parameter: (\w+)|Parameters: \{ (.+) \} are not used")
"""How LightGBM and XGBoost say that they do not know a parameter; neither stops."""
_COMMON = (
    "bagging_fraction",
    "bagging_freq",
    "colsample_bytree",
    "feature_fraction",
    "gamma",
    "lambda_l1",
    "lambda_l2",
    "learning_rate",
    "max_bin",
    "max_depth",
    "min_child_weight",
    "min_data_in_leaf",
    "num_leaves",
    "reg_alpha",
    "reg_lambda",
    "subsample",
    "tree_method",
)
"""For a name that is nearly right."""
_ROUNDS = 100
_MOST_TIMES = 10
"""A warm start adds trees; with so many times the asked for, a candidate begins anew."""


@dataclass(frozen=True)
class Boosting:
    """What a library's `train` is given."""

    kind: str
    """Of the trees: a champion's of another are not gone on with."""
    parameters: dict[str, Any]
    rounds: int
    patience: int | None
    """Rounds without a better validation slice, after which it stops; None: it does not."""

    def goes_on(self, trees: int) -> bool:
        """Whether more trees are added to a champion's so many."""
        if trees + self.rounds <= _MOST_TIMES * self.rounds:
            return True
        log.info("the champion has enough trees, the candidate begins anew", trees=trees)
        return False


def settings(declared: Boosted, classes: int) -> Boosting:
    """The declaration's; 100 trees where it names no number."""
    rest = dict(declared.parameters)
    rounds, patience = rest.pop("n_estimators", _ROUNDS), rest.pop("early_stopping_rounds", None)
    return Boosting(f"{type(declared).__name__}-{classes}", rest, rounds, patience)


def refuse_unused(declared: Boosted, told: Iterable[str]) -> None:
    """Raise a `PipelineError` where a library has said that it does not use a parameter."""
    for text in told:
        if match := _UNUSED.search(text):
            name = re.findall(r"\w+", match[1] or match[2])[0]
            near = difflib.get_close_matches(name, _COMMON, 1)
            library = type(declared).__name__
            mend = f"did you mean {near[0]}?" if near else f"see {library}'s list of parameters"
            raise PipelineError(f"model.fit.{name}", f"is not used by {library}", mend)


class Objectives(NamedTuple):
    """A library's names of what trees are fitted to."""

    binary: str
    several: str
    """Of more than two classes."""
    squared: str
    """Of a value, by `point_loss`; so is the last."""
    absolute: str

    def chosen(self, training: Training) -> dict[str, Any]:
        """The library's parameters that say it."""
        if training.classes == 0:
            return {"objective": getattr(self, str(training.parameters["point_loss"]))}
        if training.outputs == 1:
            return {"objective": self.binary}
        return {"objective": self.several, "num_class": training.classes}


def as_scores(model: onnx.ModelProto, training: Training) -> bytes:
    """What onnxmltools makes of trees as one file that gives `scores`."""
    first, *others = [one.name for one in model.graph.output]
    if training.classes == 0:
        return renamed(model, first)
    [probabilities] = others
    return selected(model, probabilities, range(training.classes), training.outputs)


def in_columns(scores: Any) -> NDArray[np.float64]:
    """[n] or [n, classes] as [n, outputs]."""
    found = np.asarray(scores, np.float64)
    return found[:, None] if found.ndim == 1 else found
