"""Live quality computed from first principles: the last example of each event, all at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from streams.records import Example
from streams.spec import Pipeline
from streams.spec.layout import unpack
from workers.evaluation.metrics import point

_RANKED = ("average_precision", "roc_auc")
Name = tuple[float, int, str]
"""Start of the bucket, version, slice."""


def by_cell(pipeline: Pipeline, examples: Iterable[Example]) -> dict[Name, list[Example]]:
    """The last example of each event, by the cells that it belongs to."""
    span = pipeline.policies.evaluate.every_seconds
    last = {(one.key, one.event_id): one for one in examples}
    cells = defaultdict[Name, list[Example]](list)
    for one in last.values():
        vector = unpack([one.vector])
        start = one.event_time // span * span
        names = ["", *(part.name for part in pipeline.slices if part.mask(vector)[0])]
        for name in names:
            cells[start, one.version, name].append(one)
    return dict(cells)


def value_measures(examples: list[Example], quantiles: tuple[float, ...]) -> dict[str, float]:
    """What is to be said of predicted numbers."""
    found = dict[str, float]()
    absolute = [abs(point_of(one) - one.label) for one in examples]
    found["mae"] = sum(absolute) / len(examples)
    found["rmse"] = (sum(error**2 for error in absolute) / len(examples)) ** 0.5
    found["wape"] = sum(absolute) / sum(abs(one.label) for one in examples)
    found["mean_error"] = sum(point_of(one) - one.label for one in examples) / len(examples)
    for place, quantile in enumerate(quantiles):
        pairs = [(one.label, one.score[1 + place]) for one in examples]  # type: ignore[index]
        found[f"below_{quantile:g}"] = sum(label <= said for label, said in pairs) / len(pairs)
        losses = [
            quantile * (label - said) if label > said else (1 - quantile) * (said - label)
            for label, said in pairs
        ]
        found[f"pinball_{quantile:g}"] = sum(losses) / len(losses)
    found["pinball"] = sum(found[f"pinball_{q:g}"] for q in quantiles) / len(quantiles)
    return found


def point_of(one: Example) -> float:
    """The point that a value's scores begin with."""
    return one.score[0] if isinstance(one.score, list) else one.score


def measures(examples: list[Example]) -> dict[str, float]:
    """What is to be said of binary examples; metrics that are not defined are left out."""
    labels = np.array([one.label for one in examples])
    scores = np.array([one.score for one in examples], np.float64)
    decided = np.array([one.decision for one in examples])
    hits, alerts, positives = (decided * labels).sum(), decided.sum(), labels.sum()
    told = np.clip(np.where(labels == 1, scores, 1 - scores), 1e-12, 1.0)
    tenths = np.minimum((scores * 10).astype(int), 9)
    gaps = [abs(scores[tenths == t].sum() - labels[tenths == t].sum()) for t in range(10)]
    found = {
        "accuracy": np.mean(decided == labels),
        "brier": np.mean((scores - labels) ** 2),
        "log_loss": -np.mean(np.log(told)),
        "precision": hits / alerts if alerts else 0.0,
        "recall": hits / positives if positives else np.nan,
        "f1": 2 * hits / (alerts + positives) if alerts + positives else np.nan,
        "prevalence": np.mean(labels),
        "alerts": np.mean(decided),
        **{name: point(name, scores, labels.astype(np.float32)) for name in _RANKED},
        "calibration_error": sum(gaps) / len(labels),
        "bias": scores.sum() / positives if positives else np.nan,
    }
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}
