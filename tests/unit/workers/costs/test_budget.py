"""Budgets: when a retrain waits, when it is skipped, and what is said of serving."""

from __future__ import annotations

import math

import pytest

from streams.errors import PipelineError
from streams.metering.account import DAY
from streams.spec import Budget
from workers.costs.budget import (
    Standing,
    expected_cost,
    money,
    over_budget,
    spent_on_retrains,
    why_put_off,
    why_skipped,
)
from workers.costs.summing import TrainingRun

NOW = 100 * DAY


def run(hours_ago: float, cost: float, outcome: str = "promote") -> TrainingRun:
    return TrainingRun(NOW - hours_ago * 3600, cost, 1, outcome)


def test_a_retrain_waits_until_what_was_spent_leaves_room_for_it() -> None:
    budget = Budget(retrain_per_day=10.0)
    known = Standing([run(30, 4), run(20, 4), run(2, 4)])
    said = why_put_off(budget, known, NOW, "EUR")
    assert said == (
        "8.00 EUR were spent on retraining in 24 hours and the next run costs about 4.00, the "
        "budget is 10.00 a day"
    )
    assert why_put_off(budget, known, NOW + 4 * 3600 + 1, "EUR") == ""
    assert why_put_off(Budget(), known, NOW, "EUR") == ""


def test_a_run_that_never_fits_says_so() -> None:
    said = why_put_off(Budget(retrain_per_day=3.0), Standing([run(90, 4)]), NOW, "EUR")
    assert said.endswith("the budget is 3.00 a day: no run fits in it")


def test_the_first_run_is_made_to_learn_what_one_costs() -> None:
    assert why_put_off(Budget(retrain_per_day=0.01), Standing([]), NOW, "EUR") == ""


def test_the_next_is_expected_to_cost_as_much_as_the_last_ones() -> None:
    assert expected_cost([]) == 0
    assert expected_cost([run(9, 100), run(8, 1), run(7, 2), run(6, 3)]) == 2
    # one that goes on has not cost all it will, and is in what was spent all the same
    found = [run(8, 2), run(0, 50, "")]
    assert expected_cost(found) == 2
    assert spent_on_retrains(found, NOW) == 52


@pytest.mark.parametrize(
    ("gain", "skipped", "expected"),
    [(5.0, 0, ""), (0.5, 0, "skip"), (0.5, 2, "skip"), (0.5, 3, ""), (math.inf, 0, "")],
)
def test_a_retrain_that_gains_less_than_its_price_is_skipped_three_times_in_four(
    gain: float, skipped: int, expected: str
) -> None:
    known = Standing([run(8, 4)], gain, skipped)
    said = why_skipped(Budget(per_point=2.0), known, "EUR")
    assert bool(said) == bool(expected)
    if said:
        assert said == (
            "it costs about 4.00 EUR and, as the last ones went, gains 0.50 points at most, "
            "worth 1.00"
        )


def test_without_prices_or_a_worth_nothing_is_skipped() -> None:
    assert why_skipped(Budget(per_point=2.0), Standing([run(8, 0)], 0.0), "EUR") == ""
    assert why_skipped(Budget(), Standing([run(8, 4)], 0.0), "EUR") == ""


def test_serving_over_budget_is_said() -> None:
    budget = Budget(serving_per_million=0.5)
    assert over_budget(budget, 0.75, "EUR") == (
        "a million predictions cost 0.75 EUR over the last day, the budget is 0.5"
    )
    assert over_budget(budget, 0.5, "EUR") == ""
    assert over_budget(budget, None, "EUR") == ""
    assert over_budget(Budget(), 99.0, "EUR") == ""


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan, True, "much"])
def test_a_budget_is_more_than_nothing(value: float) -> None:
    with pytest.raises(PipelineError, match=r"policies\.budget\.retrain_per_day"):
        Budget(retrain_per_day=value)


def test_what_a_budget_limits() -> None:
    assert not Budget().declared
    assert not Budget(serving_per_million=1.0).limits_retrains
    assert Budget(serving_per_million=1.0).declared
    assert Budget(per_point=1.0).limits_retrains


def test_amounts_show_what_tells_them_apart() -> None:
    assert [money(x) for x in (0.0, 1234.5, 0.01234567, 0.00002882, 3.999)] == [
        "0.00",
        "1,234.50",
        "0.01235",
        "0.00002882",
        "4.00",
    ]
