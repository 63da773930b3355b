"""Sums of `P.costs`: by role, version and day they make up the same total."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.metering.account import DAY, Usage
from streams.metering.prices import Prices
from streams.settings import Settings
from workers.costs.reading import latest
from workers.costs.summing import (
    SHARED,
    Spent,
    by_day,
    by_role,
    by_version,
    per_million,
    predictions,
    runs,
    within,
)

PRICES = Prices.of_settings(
    Settings(price_cpu_hour=1.0, price_gib_hour=0.5, price_training_cpu_hour=0.25)
)


def used(role: str, hours: float = 1.0, day: int = 0, **fields: Any) -> Usage:
    """So many CPU-hours, and no memory."""
    start = day * DAY
    told: dict[str, Any] = {
        "process": f"{role}-1",
        "host": "h",
        "day": float(start),
        "start": start + 10.0,
        "until": start + 20.0,
        "seconds": 10.0,
        "cpu_seconds": hours * 3600,
        "gib_hours": 0.0,
    }
    return Usage(role=role, **{**told, **fields})


usages = st.lists(
    st.builds(
        used,
        st.sampled_from(["score", "kafka", "label", "trainer", "training"]),
        st.floats(0, 100),
        st.integers(0, 3),
        predictions=st.dictionaries(st.integers(0, 3), st.integers(1, 1000), max_size=3),
        version=st.integers(0, 3),
        gib_hours=st.floats(0, 100),
    ),
    max_size=12,
)


@given(usages)
def test_the_parts_make_up_the_total(found: list[Usage]) -> None:
    total = Spent.of(found, PRICES)
    for parts in (by_role(found, PRICES), by_version(found, PRICES), by_day(found, PRICES)):
        added = sum(parts.values(), Spent())
        assert added.cost == pytest.approx(total.cost)
        assert added.cpu_hours == pytest.approx(total.cpu_hours)
        assert added.gib_hours == pytest.approx(total.gib_hours)


@given(usages, st.randoms())
def test_records_that_come_twice_or_late_change_nothing(found: list[Usage], random: Any) -> None:
    """The topic may hold every state of a record, and a broker may have taken one twice."""
    grown = []
    for number, one in enumerate(found):
        whole = {"process": f"p{number}", "seconds": 10.0}
        half = {"process": f"p{number}", "seconds": 5.0, "cpu_seconds": one.cpu_seconds / 2}
        last = type(one)(**{**{f: getattr(one, f) for f in one.__struct_fields__}, **whole})
        early = type(one)(**{**{f: getattr(one, f) for f in one.__struct_fields__}, **half})
        grown += [early, last, early, last]
    ordered = latest(grown[0:None:1])
    random.shuffle(grown)
    mixed = latest(grown)
    assert Spent.of(mixed, PRICES).cost == pytest.approx(Spent.of(ordered, PRICES).cost)
    assert Spent.of(mixed, PRICES).cpu_hours == pytest.approx(Spent.of(found, PRICES).cpu_hours)


def test_a_days_serving_is_shared_by_its_predictions_and_a_run_is_its_versions() -> None:
    found = [
        used("score", 3, predictions={1: 300, 2: 100}),
        used("redis", 1),
        used("score", 5, day=1, predictions={2: 10}),
        used("kafka", 7, day=2),
        used("label", 2),
        used("training", 4, version=2),
        used("training", 8),
    ]
    parts = {name: one.cost for name, one in by_version(found, PRICES).items()}
    assert parts == pytest.approx({"2": 4 * 0.25 + 5 + 4 * 0.25, "1": 3, SHARED: 7 + 2 + 8 * 0.25})
    assert list(parts) == ["2", "1", SHARED]
    assert predictions(found) == 410


def test_roles_stand_by_cost_and_days_by_date() -> None:
    found = [used("label", 1, 1), used("score", 2, 0), used("training", 7, 2)]
    assert list(by_role(found, PRICES)) == ["score", "training", "label"]
    assert list(by_day(found, PRICES)) == ["1970-01-01", "1970-01-02", "1970-01-03"]


def test_a_million_predictions_cost_what_serves_them() -> None:
    found = [used("score", 2, predictions={0: 100_000}), used("triton", 1), used("label", 50)]
    assert per_million(found, PRICES) == pytest.approx(30)
    assert per_million([used("triton")], PRICES) is None


def test_a_run_of_two_days_is_one_run() -> None:
    found = [
        used("training", 4, 0, version=3, outcome="promote"),
        used("training", 8, 1, version=3, outcome="promote"),
        used("training", 2, 0, process="other", outcome="failed"),
        used("training", 6, 2, process="running"),
        used("trainer", 9),
    ]
    told = [(run.cost, run.version, run.outcome) for run in runs(found, PRICES)]
    assert told == [(0.5, 0, "failed"), (3, 3, "promote"), (1.5, 0, "")]


def test_days_that_ended_before_are_left_out() -> None:
    found = [used("score", day=day) for day in range(3)]
    assert within(found, 2 * DAY) == found[2:]
    assert within(found, 2 * DAY - 1) == found[1:]
