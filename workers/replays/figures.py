"""How good what was served was, in the order of events, beside the first version left alone.

Each event was answered before its label was known, so that all of them are a test (prequential
evaluation: Gama, Sebastião, Rodrigues, "On evaluating stream learning algorithms", 2013).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from streams.errors import DriftloopError
from streams.records import Manifest
from streams.spec import Pipeline
from workers.evaluation.opponent import evaluate, threshold
from workers.examples.reading import Examples
from workers.releases.repository import Repository

Figures = dict[str, float]
Floats = NDArray[np.float32]
_PARTS = 4


@dataclass(frozen=True)
class Span:
    """Events that follow one another, and how good the answers to them were."""

    name: str
    events: int
    loop: Figures
    """As served."""
    alone: Figures
    """Of the first version."""


@dataclass(frozen=True)
class Outcome:
    """What a replay came to."""

    events: int
    """That were sent."""
    judged: int
    """That have got a label and matured, and were served by a version."""
    early: int
    """Served by a version that had learnt from labels that were not known yet: must be 0."""
    promoted: list[int] = field(default_factory=list)
    """Versions that became champion, in order."""
    spans: list[Span] = field(default_factory=list)


class NothingServed(DriftloopError):
    """No version has served anything that could be judged."""


def outcome(
    pipeline: Pipeline,
    repository: Repository,
    promoted: Sequence[Manifest],
    examples: Examples,
    sent: int,
    since: float,
) -> Outcome:
    """What was served, from this share of the examples on, or from when the first version served.

    Raises:
        NothingServed: no version has.
        ModelError: the first version's file is gone.
    """
    served = np.flatnonzero(examples.version > 0)
    if not len(served) or not promoted:
        raise NothingServed("no version has served an event that has a label - send more events")
    first = promoted[0]
    start = max(int(served[0]), int(since * len(examples)))
    judged = examples.take(slice(start, None))
    judged = judged.take(judged.version > 0)
    alone = evaluate(repository.model(first.version, first.model_sha256), judged)
    limits = {one.version: threshold(pipeline, one.threshold) for one in promoted}
    by_loop = np.array([limits[version] for version in judged.version.tolist()])
    by_first = np.full(len(judged), limits[first.version])

    def span(name: str, rows: slice) -> Span:
        label = judged.label[rows]
        loop = figures(pipeline, judged.score[rows], label, by_loop[rows])
        left = figures(pipeline, alone[rows], label, by_first[rows])
        return Span(name, len(label), loop, left)

    edges = np.linspace(0, len(judged), _PARTS + 1).astype(int).tolist()
    parts = [slice(a, b) for a, b in pairwise(edges) if b > a]
    return Outcome(
        events=sent,
        judged=len(judged),
        early=early(pipeline, examples, {one.version: one for one in promoted}),
        promoted=[one.version for one in promoted],
        spans=[
            span("all", slice(None)),
            *(span(f"quarter {n}", part) for n, part in enumerate(parts, 1)),
        ],
    )


def early(pipeline: Pipeline, examples: Examples, versions: Mapping[int, Manifest]) -> int:
    """Events whose version had learnt from labels that were not known at their time."""
    horizon = pipeline.feedback.horizon_seconds
    learnt = {n: one.label_watermark + horizon for n, one in versions.items()}
    known = np.array([learnt.get(n, -np.inf) for n in examples.version.tolist()])
    return int((examples.event_time < known).sum())


def figures(pipeline: Pipeline, scores: Floats, labels: Floats, limits: Floats) -> Figures:
    """Of scores [n, outputs] and labels [n], by the task; `limits` [n] are what decided."""
    task = pipeline.predicts
    if not task.classes:
        away = np.abs(scores[:, 0] - labels).sum(dtype=np.float64)
        covered = (labels[:, None] <= scores[:, 1:]).mean(axis=0)
        beyond = {
            f"covered by {q:g}": float(share)
            for q, share in zip(task.quantiles, covered, strict=True)
        }
        return {"WAPE": float(away / np.abs(labels).sum(dtype=np.float64)), **beyond}
    if not task.thresholds:
        return {"accuracy": float((scores.argmax(axis=1) == labels).mean())}
    found = {"accuracy": float(((scores[:, 0] >= limits) == labels).mean())}
    if len(np.unique(labels)) == 2:
        found["AUC"] = float(roc_auc_score(labels, scores[:, 0]))
        found["AP"] = float(average_precision_score(labels, scores[:, 0]))
    return found
