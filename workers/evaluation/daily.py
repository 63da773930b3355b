"""How well scores rank frauds: per period and, as the Handbook does, per day and card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.evaluation.metrics import point

Ints = NDArray[np.integer]
Floats = NDArray[np.floating]
Cards = NDArray[Any]


@dataclass(frozen=True)
class DayQuality:
    """The quality of one day's scores; `None` where the day has genuine or fraud only."""

    day: int
    n: int
    frauds: int
    auc: float | None
    ap: float | None
    cp100: float
    """Frauds among the cards investigated (100 unless told otherwise), as a share of them."""


def roc_auc(label: Ints, score: Floats) -> float | None:
    """Chance that a fraud scores above a genuine one; `None` without both. Arrays [n]."""
    return _defined("roc_auc", label, score)


def average_precision(label: Ints, score: Floats) -> float | None:
    """Mean precision over the frauds found from the top; `None` without both classes."""
    return _defined("average_precision", label, score)


def card_precision_top_k(
    day: Ints, customer: Cards, score: Floats, label: Ints, k: int = 100
) -> float | None:
    """Mean over the days of the share of frauds among `k` cards a day; `None` without a day.

    Each day the `k` cards with the highest scores are investigated, a card's score being its
    highest of that day. A card found fraudulent is blocked: it is left out on later days.
    Arrays [n], rows in any order.
    """
    precisions = [precision for _, precision in _daily_precision(day, customer, score, label, k)]
    return float(np.mean(precisions)) if precisions else None


def daily_quality(
    day: Ints, customer: Cards, score: Floats, label: Ints, k: int = 100
) -> list[DayQuality]:
    """The quality of each day, earliest first. AUC and AP count blocked cards too. Arrays [n]."""
    qualities = []
    for number, precision in _daily_precision(day, customer, score, label, k):
        today = day == number
        labels, scores = label[today], score[today]
        qualities.append(
            DayQuality(
                day=number,
                n=len(labels),
                frauds=int(labels.sum()),
                auc=roc_auc(labels, scores),
                ap=average_precision(labels, scores),
                cp100=precision,
            )
        )
    return qualities


def _daily_precision(
    day: Ints, customer: Cards, score: Floats, label: Ints, k: int
) -> Iterator[tuple[int, float]]:
    """Each day, earliest first, and the share of its `k` investigated cards that are frauds."""
    if not len(day) == len(customer) == len(score) == len(label):
        raise ValueError("day, customer, score and label differ in length")
    cards, card = np.unique(customer, return_inverse=True)
    blocked = np.zeros(len(cards), bool)
    for number in np.unique(day):
        rows = (day == number) & ~blocked[card]
        best = np.full(len(cards), -np.inf)
        np.maximum.at(best, card[rows], score[rows])
        fraud = np.zeros(len(cards), bool)
        fraud[card[rows & (label > 0)]] = True
        # equal scores: the lower card number first, so that a repeat gives the same figure
        top = np.argsort(-best, kind="stable")[:k]
        found = top[fraud[top]]
        blocked[found] = True
        yield int(number), len(found) / k


def _defined(metric: str, label: Ints, score: Floats) -> float | None:
    found = point(metric, score, label.astype(np.float32))
    return None if np.isnan(found) else found
