"""Diabetes within two years of a visit: of people held out, and by date with late labels.

By date a visit teaches when its two years are over, with diabetes or without: diagnoses are known
sooner, and to learn from them at once would show a model too many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.bench.worlds.stream import Figures, Floats, Ints, Predict, prequential, stream
from workers.worlds.liver import DAY, WITHIN

MODELS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    ),
    "boosting": lambda: HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=100, max_leaf_nodes=8, random_state=0
    ),
}
FIELDS = (
    *("age", "male", "weight", "height", "bmi", "hdl", "chol", "sbp", "dbp", "smoke", "fib4"),
    *("nafld", "hypertension", "dyslipidemia", "heart"),
)
FIRST, EVERY = 0.5, 2000


def measure() -> Figures:
    """AUC and average precision."""
    visits = stream("liver")
    matured = replace(visits, known=visits.at + WITHIN * DAY)
    people = [one.key for one in visits.happenings]
    table = np.array(
        [[one.fields.get(name, np.nan) for name in FIELDS] for one in visits.happenings], float
    )
    figures: Figures = [("visits, and with diabetes", f"{len(people)}, {visits.label.sum():.0f}")]
    first = int(FIRST * len(people))
    for name, make in MODELS.items():
        held = np.zeros(len(people))
        for train, test in GroupKFold(5).split(table, groups=people):
            model = make().fit(table[train], visits.label[train])
            held[test] = model.predict_proba(table[test])[:, 1]
        figures.append((f"{name}, people held out", _quality(visits.label, held)))

        def fit(learnt: Ints, make: Callable[[], Any] = make) -> Predict:
            model = make().fit(table[learnt], visits.label[learnt])
            return lambda run: model.predict_proba(table[run])[:, 1]

        later = prequential(matured, first, EVERY, fit)
        said = _quality(visits.label[first:], later)
        figures.append((f"{name}, by date, anew every {EVERY:,}", said))
    return figures


def _quality(label: Floats, score: Floats) -> str:
    return f"AUC {roc_auc_score(label, score):.3f}, AP {average_precision_score(label, score):.3f}"
