"""`models drift`: the table, and every number as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.sums import Cell
from tests.unit.workers.evaluation.test_live_drift import day, part, rows
from tests.unit.workers.evaluation.worlds import DAY
from workers.cli import app
from workers.commands import drift
from workers.evaluation.live_drift import DriftRow, with_labels
from workers.terminal import out


def shown(monkeypatch: pytest.MonkeyPatch, found: list[DriftRow], *options: str) -> str:
    async def read(*_: Any) -> list[DriftRow]:
        return found

    monkeypatch.setattr(drift, "_read", read)
    monkeypatch.setenv("DRIFTLOOP_KAFKA", "nowhere:1")
    monkeypatch.setattr(out, "_width", 200)
    result = CliRunner().invoke(app, ["models", "drift", "card_fraud", *options])
    assert result.exit_code == 0, result.output
    return result.output


def a_week() -> list[DriftRow]:
    fallback = part(day(31), 0, 2)
    fallback.version, fallback.counts, fallback.sums, fallback.outside = 0, [], [], []
    cell = Cell(31.0 * DAY, DAY, 1, "champion", "", events=100, fed_back=25, delay=25 * 7200.0)
    found = rows([day(30), day(31, 5.0), fallback, day(32), day(32, version=2)])
    return list(with_labels(found, [cell]))


def test_each_bucket_and_version_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch, a_week())
    lines = {tuple(line.split()[:2]): line for line in said.splitlines() if line[:4] == "1970"}
    assert len(lines) == 5
    alarmed = lines["1970-02-01", "1"]
    assert "alarm" in alarmed
    assert "amount" in alarmed
    assert "PSI" in alarmed
    assert "25.0% in 2.0 h" in alarmed
    assert "the fallback" in lines["1970-02-01", "fallback"]
    assert "of level" in lines["1970-01-31", "1"]
    assert "not over yet" in lines["1970-02-02", "1"]
    assert "no reference" in lines["1970-02-02", "2"]
    assert "a version has no reference to drift from" in said


def test_the_last_buckets_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch, a_week(), "--last", "1", "--json")
    found = [json.loads(line) for line in said.splitlines()]
    assert [(row["start"], row["version"]) for row in found] == [(32 * DAY, 1), (32 * DAY, 2)]
    assert {one["column"] for one in found[0]["columns"]} == {
        "amount",
        "weekend",
        "rate",
        "web",
        "score",
    }
    assert "columns" not in found[1]


def test_before_anything_is_counted_it_says_what_to_look_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "see that `driftloop evaluate card_fraud` runs" in shown(monkeypatch, [])
