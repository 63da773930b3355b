"""The trainer's purse: what it says, once, and what it tells the trainer."""

from __future__ import annotations

import time
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from streams.ledger.state import LedgerState, state_after
from streams.metering.account import DAY, Usage
from streams.records import Action
from streams.settings import Settings
from streams.spec import Budget, Pipeline, Policies
from tests.unit.pipelines import declare
from tests.unit.workers.costs.test_gains import entry
from tests.unit.workers.costs.test_summing import used
from workers.costs import purse
from workers.costs.purse import Purse

PRICED = Settings(price_cpu_hour=1.0)


def budgeted(**limits: float) -> Pipeline:
    return declare(name="paid", policies=Policies(budget=Budget(**limits)))


def today(role: str, hours: float, **fields: Any) -> Usage:
    now = time.time()
    return used(role, hours, int(now // DAY), **{"until": now, **fields})


class Kafka:
    """What the topics hold."""

    def __init__(self) -> None:
        self.usages: list[Usage] = []
        self.ledger = LedgerState()

    async def read_usages(self, *_: Any) -> list[Usage]:
        return self.usages

    async def read_state(self, *_: Any) -> LedgerState:
        return self.ledger


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    found = Kafka()
    monkeypatch.setattr(purse, "read_usages", found.read_usages)
    monkeypatch.setattr(purse, "read_state", found.read_state)
    return found


def gauge(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"driftloop_{name}", {"pipeline": "paid"})


async def test_a_retrain_over_budget_is_put_off_and_that_is_said_once(kafka: Kafka) -> None:
    kafka.usages = [today("training", 3, outcome="promote")]
    mine = Purse(PRICED, budgeted(retrain_per_day=5.0))
    with structlog.testing.capture_logs() as said:
        assert [await mine.holds() for _ in range(3)] == [True] * 3
        assert gauge("retrain_put_off") == 1
        kafka.usages = [today("training", 3, outcome="promote", until=time.time() - DAY - 1)]
        assert not await mine.holds()
    assert [line["event"] for line in said] == [
        "a retrain is put off",
        "a retrain that was put off begins",
    ]
    assert said[0]["reason"].startswith("3.00 USD were spent on retraining in 24 hours")
    assert gauge("retrain_put_off") == 0


async def test_three_in_four_that_promise_too_little_are_skipped(kafka: Kafka) -> None:
    kafka.usages = [today("training", 3, outcome="reject")]
    kafka.ledger = state_after(
        [entry(1, Action.PROMOTE)]
        + [entry(v, Action.REJECT, gain=0.0, gain_se=0.001) for v in range(2, 8)]
    )
    mine = Purse(PRICED, budgeted(per_point=1.0))
    assert [await mine.skips() for _ in range(8)] == [True, True, True, False] * 2
    assert not await Purse(Settings(), budgeted(per_point=1.0)).skips()


async def test_without_a_budget_nothing_is_asked(kafka: Kafka) -> None:
    kafka.usages = [today("training", 1e9, outcome="promote")]
    mine = Purse(PRICED, budgeted(serving_per_million=1.0))
    assert not await mine.holds()
    assert not await mine.skips()


def test_serving_over_budget_is_said_once_and_its_end_too() -> None:
    mine = Purse(PRICED, budgeted(serving_per_million=1000.0))
    dear = [today("score", 2, predictions={1: 1000})]
    with structlog.testing.capture_logs() as said:
        for usages in (dear, dear, [today("score", 2, predictions={1: 2000})]):
            mine.look(usages, time.time())
    assert [line["event"] for line in said] == [
        "serving is over budget, and goes on",
        "serving is within budget again",
    ]
    assert gauge("cost_per_million") == pytest.approx(1000)


def test_what_was_spent_on_retraining_is_a_gauge() -> None:
    Purse(PRICED, budgeted()).look([today("training", 3), today("trainer", 9)], time.time())
    assert gauge("retrain_spent") == pytest.approx(3)
