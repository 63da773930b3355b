"""What usage costs: what was used or reserved, whichever is more, by the price of its kind."""

from __future__ import annotations

from typing import Any

import pytest

from streams.metering.account import Usage
from streams.metering.prices import Prices
from streams.settings import Settings

HOUR = 3600.0


def used(role: str = "score", **fields: Any) -> Usage:
    """In one hour: half a CPU and two GiB."""
    told = {"start": 0.0, "until": HOUR, "seconds": HOUR, "cpu_seconds": HOUR / 2, "gib_hours": 2.0}
    return Usage(**{"process": "a", "role": role, "host": "h", "day": 0.0, **told, **fields})


def prices(**given: Any) -> Prices:
    return Prices.of_settings(Settings(**given))


def test_hours_times_prices() -> None:
    found = prices(price_cpu_hour=0.04, price_gib_hour=0.005, price_gpu_hour=2.0)
    assert found.cost(used(gpu_seconds=1800)) == pytest.approx(0.02 + 0.01 + 1.0)


def test_what_is_reserved_is_paid_for_used_or_not() -> None:
    found = prices(price_cpu_hour=1.0, price_gib_hour=1.0)
    assert found.cost(used(cpus=2.0, gib=4.0)) == pytest.approx(2 + 4)
    assert found.cost(used(cpus=0.25, gib=1.0)) == pytest.approx(0.5 + 2)


def test_training_may_have_prices_of_its_own_and_zero_is_one() -> None:
    found = prices(price_cpu_hour=1.0, price_gib_hour=1.0, price_training_cpu_hour=0.0)
    assert found.cost(used("training")) == pytest.approx(2.0)
    assert found.cost(used("trainer")) == pytest.approx(2.5)


def test_nothing_is_priced_unless_a_price_is_given() -> None:
    assert not prices().given
    assert prices().cost(used(gpu_seconds=99)) == 0
    assert prices(price_training_gpu_hour=1.0).given
