"""What was used and what it cost, added up by role, version or day. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from streams.metering.account import DAY, Usage
from streams.metering.prices import TRAINING, Prices

SERVING = ("score", "triton", "redis", "kafka", "controller")
"""What predictions need; all other roles are there for labels, quality and retraining."""
SHARED = "shared"
"""What no single version has cost: labels, quality, the trainer between runs; and serving on a day
without predictions."""
_FALLBACK = "fallback"
_PUT_OUT = 1_000_000


@dataclass(frozen=True)
class Spent:
    """What was used, and its cost."""

    cpu_hours: float = 0.0
    gib_hours: float = 0.0
    gpu_hours: float = 0.0
    cost: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, share: float) -> Spent:
        """A share of it."""
        return Spent(*(getattr(self, f.name) * share for f in fields(self)))

    @classmethod
    def of(cls, usages: Iterable[Usage], prices: Prices) -> Spent:
        """What these have used and cost together."""
        return sum(
            (
                cls(
                    one.cpu_seconds / 3600,
                    one.gib_hours,
                    one.gpu_seconds / 3600,
                    prices.cost(one),
                )
                for one in usages
            ),
            cls(),
        )


@dataclass(frozen=True)
class TrainingRun:
    """A training run that has ended."""

    at: float
    """When it ended."""
    cost: float
    version: int
    outcome: str


def by_role(usages: Iterable[Usage], prices: Prices) -> dict[str, Spent]:
    """By role, the dearest first."""
    return _by(usages, prices, lambda one: one.role)


def by_day(usages: Iterable[Usage], prices: Prices) -> dict[str, Spent]:
    """By day (UTC), the oldest first."""
    return dict(sorted(_by(usages, prices, lambda one: day_of(one.day)).items()))


def by_version(usages: Sequence[Usage], prices: Prices) -> dict[str, Spent]:
    """By version: a day's serving in proportion to its predictions, training runs as a whole.

    What is left is `SHARED`: the parts add up to all that was spent.
    """
    found: defaultdict[str, Spent] = defaultdict(Spent)
    days: defaultdict[float, list[Usage]] = defaultdict(list)
    for one in usages:
        if one.role in SERVING:
            days[one.day].append(one)
        else:
            found[_name(one.version) if one.version else SHARED] += Spent.of([one], prices)
    for day in days.values():
        spent, made = Spent.of(day, prices), defaultdict[int, int](int)
        for one in day:
            for version, count in one.predictions.items():
                made[version] += count
        every = sum(made.values())
        if not every:
            found[SHARED] += spent
        for version, count in made.items():
            found[_name(version)] += spent.times(count / every)
    order = sorted(found, key=lambda name: (name == SHARED, name == _FALLBACK, -_number(name)))
    return {name: found[name] for name in order}


def predictions(usages: Iterable[Usage]) -> int:
    """How many predictions were made."""
    return sum(sum(one.predictions.values()) for one in usages)


def runs(usages: Iterable[Usage], prices: Prices) -> list[TrainingRun]:
    """The training runs, the last to end last; one that goes on has the outcome ``""``."""
    found: defaultdict[str, list[Usage]] = defaultdict(list)
    for one in usages:
        if one.role == TRAINING:
            found[one.process].append(one)
    made = []
    for records in found.values():
        last = max(records, key=lambda one: one.until)
        cost = Spent.of(records, prices).cost
        made.append(TrainingRun(last.until, cost, last.version, last.outcome))
    return sorted(made, key=lambda run: run.at)


def per_million(usages: Sequence[Usage], prices: Prices) -> float | None:
    """What a million predictions cost in serving; None where there were none."""
    made = predictions(usages)
    serving = Spent.of((one for one in usages if one.role in SERVING), prices)
    return serving.cost / made * _PUT_OUT if made else None


def within(usages: Iterable[Usage], since: float) -> list[Usage]:
    """The records of days that ended after a time of day; whole days, as they are written."""
    return [one for one in usages if one.day + DAY > since]


def day_of(at: float) -> str:
    """A day as 2026-01-31, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _by(usages: Iterable[Usage], prices: Prices, name: Callable[[Usage], str]) -> dict[str, Spent]:
    found: defaultdict[str, Spent] = defaultdict(Spent)
    for one in usages:
        found[name(one)] += Spent.of([one], prices)
    return dict(sorted(found.items(), key=lambda item: (-item[1].cost, -item[1].cpu_hours)))


def _name(version: int) -> str:
    return str(version) if version else _FALLBACK


def _number(name: str) -> int:
    return int(name) if name.isdigit() else 0
