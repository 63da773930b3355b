"""Anomalies of the shuttle by a random forest: of the first 40 %, and made anew."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.bench.worlds.stream import Figures, Floats, Ints, Predict, frozen, prequential, stream

FIRST, EVERY, SCARCE = 0.4, 5000, 5000


def measure() -> Figures:
    """AUC and average precision of the last 60 %."""
    found = stream("machine")
    table = np.array([list(one.fields.values()) for one in found.happenings])
    first = int(FIRST * len(table))

    def fit(learnt: Ints) -> Predict:
        model = RandomForestClassifier(100, random_state=0).fit(table[learnt], found.label[learnt])
        return lambda run: model.predict_proba(table[run])[:, 1]

    def quality(score: Floats, since: int) -> str:
        label = found.label[since:]
        rate = roc_auc_score(label, score), average_precision_score(label, score)
        return f"AUC {rate[0]:.4f}, AP {rate[1]:.4f}"

    alone = IsolationForest(random_state=0).fit(table[:SCARCE])
    odd = -alone.score_samples(table[SCARCE:])
    return [
        ("forest, frozen at 40 %", quality(frozen(found, first, fit), first)),
        (f"forest, anew every {EVERY:,}", quality(prequential(found, first, EVERY, fit), first)),
        (f"isolation forest of the first {SCARCE:,}, no labels", quality(odd, SCARCE)),
        (f"forest, frozen at {SCARCE:,}", quality(frozen(found, SCARCE, fit), SCARCE)),
    ]
