"""Window features compile to a plan, and are picked out of what a fold returns."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import BaseModel

from streams.spec import Count, Event, LabelRate, Mean, Sum
from streams.spec.aggregates import Window
from streams.spec.windows import FoldPlan, KeyPlan, compile_plan, select


class Payment(BaseModel):
    payment_id: str
    card: str
    shop: str
    amount: float
    tip: float
    at: float


EVENT = Event(Payment, id="payment_id", key="card", time="at")


def plan_of(*windows: Window, remember: int = 0) -> FoldPlan:
    return compile_plan(EVENT, windows, remember)


def test_windows_that_share_an_edge_share_it_in_the_plan() -> None:
    plan = plan_of(
        Count(key="card", over="1d"),
        Mean(key="card", over="1d", field="amount"),
        Sum(key="card", over="7d", field="amount"),
        remember=60,
    )
    assert plan.keys == (
        KeyPlan("card", (0, 86_400, 604_800), ("amount",), False, ((0, 1), (0, 2)), 60),
    )
    assert plan.width == 4


def test_a_delay_moves_both_edges() -> None:
    plan = plan_of(LabelRate(key="shop", over="1d", delay="7d"), Count(key="shop", over="1h"))
    shop = plan.keys[1]
    assert shop.edges == (0, 3600, 604_800, 691_200)
    assert shop.windows == ((2, 3), (0, 1))
    assert shop.labels
    assert shop.label_age == 604_800, "of the label window, not of the count"
    assert plan.label_keys == ("shop",)


def test_the_events_key_comes_first_and_alone_remembers_ids() -> None:
    plan = plan_of(Count(key="shop", over="1h"), Count(key="card", over="1h"), remember=60)
    assert [(key.key, key.remember) for key in plan.keys] == [("card", 60), ("shop", 0)]


def test_without_windows_the_key_remembers_ids_and_nothing_else() -> None:
    plan = plan_of(remember=60)
    assert plan.keys == (KeyPlan("card", (), (), False, (), 60),)
    assert (plan.width, plan.values, plan.label_keys) == (0, (), ())
    assert plan.keys[0].kept == 60
    assert plan_of().keys[0].kept == 0


def test_events_are_kept_for_the_oldest_edge_or_as_long_as_ids() -> None:
    assert plan_of(Count(key="card", over="1h"), remember=60).keys[0].kept == 3600
    assert plan_of(Count(key="card", over="1m"), remember=3600).keys[0].kept == 3600


def test_events_of_entities_that_partitions_share_are_kept_a_day_longer() -> None:
    card, shop = plan_of(Count(key="card", over="2d"), Count(key="shop", over="2d")).keys
    assert (card.kept, shop.kept) == (2 * 86_400, 3 * 86_400)


def test_values_of_all_keys_are_sent_once_in_a_fixed_order() -> None:
    plan = plan_of(
        Sum(key="shop", over="1h", field="tip"),
        Sum(key="card", over="1h", field="amount"),
        Sum(key="shop", over="1h", field="amount"),
        Count(key="card", over="1h"),
    )
    assert plan.values == ("amount", "tip")
    assert [key.values for key in plan.keys] == [("amount",), ("tip", "amount")]
    assert plan.width == 2 + 3


WINDOWS = (
    Count(key="card", over="1h"),
    Sum(key="card", over="1h", field="amount"),
    Mean(key="card", over="2h", field="amount"),
    Mean(key="card", over="2h", field="tip"),
    Count(key="shop", over="1h", delay="1h"),
    LabelRate(key="shop", over="1h", delay="1h"),
    LabelRate(key="shop", over="3h", delay="1h"),
    Sum(key="shop", over="3h", delay="1h", field="tip"),
)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        # card: two windows of count, amount, tip; shop: two windows of count, tip, labels
        (WINDOWS[0], 0.0),
        (WINDOWS[1], 1.0),
        (WINDOWS[2], 4 / 3),
        (WINDOWS[3], 5 / 3),
        (WINDOWS[4], 6.0),
        (WINDOWS[5], 8 / 6),
        (WINDOWS[6], 11 / 9),
        (WINDOWS[7], 10.0),
    ],
)
def test_each_window_finds_its_numbers(window: Window, expected: float) -> None:
    plan = plan_of(*WINDOWS)
    folded = np.arange(plan.width, dtype=np.float64)[None, :].repeat(3, axis=0)
    column = select(plan, window)(folded)
    assert column.shape == (3,)
    np.testing.assert_allclose(column, expected)


def test_means_and_rates_of_no_events_are_zero() -> None:
    plan = plan_of(*WINDOWS)
    for window in WINDOWS:
        assert select(plan, window)(np.zeros((2, plan.width))).tolist() == [0.0, 0.0]
