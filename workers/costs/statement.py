"""The statement of a pipeline's costs: sums, what a unit costs, budgets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from streams.ledger.state import LedgerState
from streams.metering.account import DAY, GIB, Usage
from streams.metering.prices import HOURS_OF_MONTH, Prices
from streams.spec import Pipeline
from workers.costs.budget import (
    Standing,
    money,
    over_budget,
    spent_on_retrains,
    why_put_off,
    why_skipped,
)
from workers.costs.gains import gained, gains, most_expected
from workers.costs.summing import (
    Spent,
    TrainingRun,
    by_day,
    by_role,
    by_version,
    day_of,
    per_million,
    predictions,
    runs,
    within,
)

_MILLION = 1_000_000


@dataclass(frozen=True)
class Statement:
    """What was used in a span of days, and what came of it."""

    usages: Sequence[Usage]
    prices: Prices
    metric: str
    """The gate's: its hundredths are points."""
    runs: Sequence[TrainingRun]
    """Those that have ended."""
    published: int
    """Versions that became champion by one of these runs."""
    points: float
    """That these versions gained, as the gate measured it."""
    warnings: Sequence[str]
    """What budgets say now."""
    kept: int | None = None
    """Bytes that all replicas of the topics take now; None where the brokers do not say."""

    @property
    def priced(self) -> bool:
        """Whether anything has a price."""
        return self.prices.given

    @property
    def total(self) -> Spent:
        """All of it."""
        return Spent.of(self.usages, self.prices)

    @property
    def period(self) -> str:
        """The days of it."""
        first, last = (
            day_of(pick(one.day for one in self.usages)) if self.usages else "-"
            for pick in (min, max)
        )
        return first if first == last else f"{first} to {last}"

    @property
    def retraining(self) -> float:
        """What the runs cost."""
        return sum(run.cost for run in self.runs)

    def parts(self, by: str) -> dict[str, Spent]:
        """Added up by `role`, `version` or `day`; the parts make up the total."""
        add_up = {"role": by_role, "version": by_version, "day": by_day}
        return add_up[by](self.usages, self.prices)

    def figures(self) -> dict[str, Any]:
        """Its numbers by name; None where there is nothing to divide by, or no price."""
        made = predictions(self.usages)
        found = {
            "serving_per_million": per_million(self.usages, self.prices),
            "all_per_million": _per(self.total.cost * _MILLION, made),
            "per_retrain": _per(self.retraining, len(self.runs)),
            "per_published_version": _per(self.retraining, self.published),
            "per_point": _per(self.retraining, max(0.0, self.points)),
        }
        return {
            "currency": self.prices.currency,
            "priced": self.priced,
            "predictions": made,
            "retrains": len(self.runs),
            "published_versions": self.published,
            "metric": self.metric,
            "points": self.points,
            "cost": self.total.cost if self.priced else None,
            **{name: one if self.priced else None for name, one in found.items()},
            "kept_gib": None if self.kept is None else self.kept / GIB,
            "kept_per_month": self._kept_per_month(),
            "warnings": list(self.warnings),
        }

    def _kept_per_month(self) -> float | None:
        """What the topics cost in a month, if they stay as they are; in no sum."""
        if self.kept is None or not self.prices.kept_gib_hour:
            return None
        return self.kept / GIB * self.prices.kept_gib_hour * HOURS_OF_MONTH

    def lines(self) -> list[str]:
        """What a person is to know beside the sums."""
        if self.kept is None:
            return self._amounts()
        month, gib = self._kept_per_month(), f"{self.kept / GIB:,.3f} GiB"
        price = "" if month is None else f": {money(month)} {self.prices.currency} a month more"
        return [*self._amounts(), f"topics keep {gib} now{price}"]

    def _amounts(self) -> list[str]:
        if not self.priced:
            return [
                "nothing has a price: set DRIFTLOOP_PRICE_CPU_HOUR, _GIB_HOUR and _GPU_HOUR to "
                "what you pay, and the same records say what it cost",
                *self.warnings,
            ]
        found = self.figures()
        of_runs = _counted(len(self.runs), "run")
        what = {
            "serving_per_million": "a million predictions, serving alone",
            "all_per_million": "a million predictions, with labels, quality and retraining",
            "per_retrain": f"a retrain ({of_runs})",
            "per_published_version": f"a published version ({self.published} of {of_runs})",
            "per_point": f"a point of {self.metric} ({self.points:.2f} gained, as the gate saw it)",
        }
        said = [
            f"{money(found[name])} {self.prices.currency}: {text}"
            for name, text in what.items()
            if found[name] is not None
        ]
        return [*said, *self.warnings]


def statement(
    usages: Sequence[Usage],
    ledger: LedgerState,
    pipeline: Pipeline,
    prices: Prices,
    times: tuple[float, float],
) -> Statement:
    """The statement of the days since the first of two times of day, as of the second.

    Budgets are held against all records.
    """
    since, now = times
    shown = within(usages, since)
    made = runs(usages, prices)
    ended = [run for run in runs(shown, prices) if run.outcome]
    ours = {run.version for run in ended if run.version}
    all_gains = gains(ledger)
    budget, known = pipeline.policies.budget, Standing(made, most_expected(all_gains))
    serving = per_million(within(usages, now - DAY), prices)
    over = over_budget(budget, serving, prices.currency)
    put_off = why_put_off(budget, known, now, prices.currency)
    skipped = "" if put_off else why_skipped(budget, known, prices.currency)
    warnings = [
        *([f"over budget: {over}"] if over else []),
        *([f"a retrain would be put off now: {put_off}"] if put_off else []),
        *([f"a retrain would be skipped now: {skipped}"] if skipped else []),
    ]
    if prices.given and budget.retrain_per_day is not None and not put_off:
        spent = money(spent_on_retrains(made, now))
        warnings.append(
            f"{spent} {prices.currency} of {money(budget.retrain_per_day)} for retraining spent in "
            "24 hours"
        )
    return Statement(
        usages=shown,
        prices=prices,
        metric=pipeline.policies.gate.metric,
        runs=ended,
        published=sum(version in ledger.promoted for version in ours),
        points=gained([one for one in all_gains if one.version in ours]),
        warnings=warnings,
    )


def _per(cost: float, units: float) -> float | None:
    return cost / units if units else None


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
