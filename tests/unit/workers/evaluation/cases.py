"""Cases for the gate: labels and scores of a made-up world."""

from __future__ import annotations

from typing import Any

import numpy as np

from streams.spec.tasks import Task
from workers.evaluation.case import Case, Contender
from workers.evaluation.metrics import Labels, Scores


def world(seed: int = 0, count: int = 4000, rate: float = 0.05) -> tuple[Labels, Scores]:
    """Labels, and calibrated scores that know something of them, [n, 1]."""
    random = np.random.default_rng(seed)
    labels = (random.random(count) < rate).astype(np.float32)
    logits = 3 * random.normal(size=count) + 9 * labels - 4.5 + np.log(rate / (1 - rate))
    return labels, (1 / (1 + np.exp(-logits)))[:, None].astype(np.float32)


def noisy(scores: Scores, amount: float, seed: int = 9) -> Scores:
    """Scores of a worse model: its logits with noise."""
    odds = scores.clip(1e-6, 1 - 1e-6) / (1 - scores.clip(1e-6, 1 - 1e-6))
    logits = np.log(odds) + np.random.default_rng(seed).normal(0, amount, scores.shape)
    found: Scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return found


def case(
    labels: Labels, candidate: Scores, champion: Scores | Contender | None = None, **more: Any
) -> Case:
    """A candidate, against version 3 where there is a champion's scores."""
    if not isinstance(champion, Contender):
        champion = Contender() if champion is None else Contender(3, champion)
    if candidate.ndim > 1 and candidate.shape[1] > 1:
        more = {"task": Task("multiclass", candidate.shape[1]), **more}
    return Case(labels, Contender(0, candidate), champion, **more)
