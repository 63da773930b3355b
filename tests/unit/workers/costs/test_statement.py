"""The statement: what a million predictions, a retrain, a version and a point cost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.ledger.state import LedgerState, state_after
from streams.metering.account import DAY, Usage
from streams.metering.prices import Prices
from streams.records import Action
from streams.settings import Settings
from streams.spec import Budget, Policies
from tests.unit.pipelines import declare
from tests.unit.workers.costs.test_gains import entry
from tests.unit.workers.costs.test_summing import used
from workers.cli import app
from workers.commands import costs
from workers.costs.statement import Statement, statement

PRICED = Settings(kafka="none:1", price_cpu_hour=1.0, currency="EUR")
PIPELINE = declare(
    policies=Policies(budget=Budget(retrain_per_day=2.0, serving_per_million=50.0, per_point=0.1))
)
USAGES = [
    used("score", 2, predictions={1: 15_000, 2: 5_000}),
    used("label", 1),
    used("training", 3, version=1, outcome="promote", process="a"),
    used("training", 1, version=2, outcome="promote", process="b", until=30.0),
    used("training", 2, version=3, outcome="reject", process="c", until=40.0),
    used("training", 9, process="d", until=5.0),
]
LEDGER = state_after(
    [
        entry(1, Action.PROMOTE),
        entry(2, Action.PROMOTE, gain=0.04, gain_se=0.01),
        entry(3, Action.REJECT, gain=-0.01, gain_se=0.01),
    ]
)


def made(usages: list[Usage], settings: Settings = PRICED, since: float = 0.0) -> Statement:
    return statement(usages, LEDGER, PIPELINE, Prices.of_settings(settings), (since, DAY / 2))


def test_each_unit_has_its_price() -> None:
    found = made(USAGES).figures()
    assert found["serving_per_million"] == pytest.approx(100)
    assert found["all_per_million"] == pytest.approx(18 * 50)
    assert found["cost"] == pytest.approx(18)
    # of the runs that have ended
    assert (found["retrains"], found["per_retrain"]) == (3, pytest.approx(2))
    assert (found["published_versions"], found["per_published_version"]) == (2, pytest.approx(3))
    assert (found["points"], found["per_point"]) == (pytest.approx(4), pytest.approx(1.5))


def test_budgets_are_said() -> None:
    over, put_off = made(USAGES).warnings
    assert over.startswith("over budget: a million predictions cost 100.00 EUR over the last day")
    assert put_off.startswith("a retrain would be put off now: 15.00 EUR were spent")
    [spent] = made([used("training", 0.5, outcome="reject")]).warnings
    assert spent == "0.5 EUR of 2.00 for retraining spent in 24 hours"


def test_without_a_price_there_are_no_amounts_and_it_says_how_to_get_them() -> None:
    said = made(USAGES, Settings())
    assert "DRIFTLOOP_PRICE_CPU_HOUR" in said.lines()[0]
    assert said.figures()["per_retrain"] is None
    assert said.figures()["predictions"] == 20_000


def test_nothing_is_divided_by_nothing() -> None:
    found = made([]).figures()
    assert [found[name] for name in ("serving_per_million", "per_retrain", "per_point")] == [
        None
    ] * 3


def test_days_before_are_left_out_of_sums_and_not_of_budgets() -> None:
    old = [used("training", 1.5, outcome="promote", until=DAY / 4), used("score", 1, day=2)]
    said = made(old, since=1.5 * DAY)
    assert said.total.cpu_hours == 1
    assert any("a retrain would be put off" in line for line in said.warnings)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Usage]:
    """What the command finds in Kafka."""
    found: list[Usage] = list(USAGES)

    async def read(*_: Any) -> tuple[list[Usage], LedgerState, int]:
        return found, LEDGER, 5 << 29

    monkeypatch.setattr(costs, "_read", read)
    monkeypatch.setattr(costs, "find_pipeline", lambda _: PIPELINE)
    monkeypatch.setattr(costs, "connected_settings", lambda *_, **__: PRICED)
    return found


@pytest.mark.parametrize(
    ("by", "named"),
    [
        ("role", ["training", "score", "label"]),
        ("version", ["3", "2", "1"]),
        ("day", ["1970-01-01"]),
    ],
)
def test_the_command_shows_sums_and_what_a_unit_costs(
    by: str, named: list[str], shown: list[Usage]
) -> None:
    del shown
    done = CliRunner().invoke(app, ["costs", "orders", "--by", by])
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows[2 : 2 + len(named)]] == named
    assert ["all", "18.000", "0.000", "-", "18.00"] in rows
    assert "100.00 EUR: a million predictions, serving alone" in done.stdout
    assert "a point of average_precision (4.00 gained, as the gate saw it)" in done.stdout


def test_json_has_every_number(shown: list[Usage]) -> None:
    del shown
    done = CliRunner().invoke(app, ["costs", "orders", "--by", "version", "--json"])
    found = json.loads(done.stdout)
    assert found["rows"]["2"]["cost"] == pytest.approx(2 * 0.25 + 1)
    assert found["per_retrain"] == pytest.approx(2)
    assert (found["by"], found["kept_gib"], found["kept_per_month"]) == ("version", 2.5, None)


def test_what_topics_keep_has_its_price_beside_the_sums() -> None:
    priced = PRICED.model_copy(update={"price_kept_gib_month": 0.2})
    said = replace(made(USAGES, priced), kept=5 << 30)
    assert said.lines()[-1] == "topics keep 5.000 GiB now: 1.00 EUR a month more"
    assert said.figures()["kept_per_month"] == pytest.approx(1.0)
    assert said.total == made(USAGES).total
    assert replace(made(USAGES), kept=5 << 30).lines()[-1] == "topics keep 5.000 GiB now"


def test_where_nothing_is_known_it_says_when_something_will_be(shown: list[Usage]) -> None:
    shown.clear()
    done = CliRunner().invoke(app, ["costs", "orders"])
    assert "nothing has been written down yet of what orders uses" in done.stdout
