"""Whether a retrain is within budget, and serving too. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streams.metering.account import DAY
from streams.spec.budget import Budget
from workers.costs.summing import TrainingRun

_LAST = 3
"""A run is expected to cost what so many before it cost on average."""
_MADE_ANYWAY = 4
"""One in so many that are due is made though it promises too little: the world may have changed."""


@dataclass(frozen=True)
class Standing:
    """What is known where a retrain is due."""

    runs: Sequence[TrainingRun]
    """All that are known, the last to end last."""
    most_gain: float = math.inf
    """What it may gain at most, in points of the gate's metric."""
    skipped: int = 0
    """So many that were due before it were skipped, one after another."""


def spent_on_retrains(runs: Sequence[TrainingRun], now: float) -> float:
    """What runs that ended in the last 24 hours cost."""
    return sum(run.cost for run in runs if run.at > now - DAY)


def expected_cost(runs: Sequence[TrainingRun]) -> float:
    """What the next run will cost: the mean of the last ones, 0 before the first."""
    last = [run.cost for run in runs if run.outcome][-_LAST:]
    return sum(last) / len(last) if last else 0.0


def why_put_off(budget: Budget, known: Standing, now: float, currency: str) -> str:
    """Why a retrain has to wait until there is money again; empty where it may begin.

    One that alone costs more than a day's budget is never within it, and the reason says so.
    """
    allowed = budget.retrain_per_day
    if allowed is None:
        return ""
    spent, next_one = spent_on_retrains(known.runs, now), expected_cost(known.runs)
    if spent + next_one <= allowed:
        return ""
    said = (
        f"{money(spent)} {currency} were spent on retraining in 24 hours and the next run costs "
        f"about {money(next_one)}, the budget is {money(allowed)} a day"
    )
    return f"{said}: no run fits in it" if next_one > allowed else said


def why_skipped(budget: Budget, known: Standing, currency: str) -> str:
    """Why a retrain is not worth its price; empty where it may be."""
    price, worth = expected_cost(known.runs), budget.per_point
    if worth is None or not price or known.skipped >= _MADE_ANYWAY - 1:
        return ""
    if known.most_gain * worth >= price:
        return ""
    return (
        f"it costs about {money(price)} {currency} and, as the last ones went, gains "
        f"{known.most_gain:.2f} points at most, worth {money(known.most_gain * worth)}"
    )


def over_budget(budget: Budget, per_million: float | None, currency: str) -> str:
    """What is to be said of serving; empty where it is within budget or has none."""
    allowed = budget.serving_per_million
    if allowed is None or per_million is None or per_million <= allowed:
        return ""
    return (
        f"a million predictions cost {money(per_million)} {currency} over the last day, the budget "
        f"is {money(allowed)}"
    )


def money(amount: float) -> str:
    """An amount with as many digits as tell it from others."""
    if abs(amount) >= 1 or not amount:
        return f"{amount:,.2f}"
    return np.format_float_positional(amount, 4, fractional=False, trim="-")
