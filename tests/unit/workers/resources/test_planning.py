"""What a load would take, from what a worker can do."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.settings import Settings
from streams.spec import Column, Policies, Scale
from tests.unit.pipelines import declare
from workers.cli import app
from workers.processes import looking
from workers.processes.looking import true_rate
from workers.resources.planning import Costing, plan

HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize(
    ("load", "rate", "workers", "above"),
    [(1.0, 1000.0, 1, False), (1400.0, 1000.0, 2, False), (50_000.0, 9_000.0, 8, True)],
)
def test_workers_are_those_that_the_policy_would_run(
    load: float, rate: float, workers: int, above: bool
) -> None:
    made = plan(declare(policies=Policies(scale=Scale(max=4))), load, Costing(rate, "as given"))
    assert (made.workers, made.partitions, made.above_max) == (workers, workers, above)


def test_tritons_and_money_are_as_many_as_was_measured() -> None:
    unknown = plan(declare(), 1000.0, Costing(500.0, "as given"))
    assert (unknown.triton_instances, unknown.cost_per_day) == (None, None)
    known = plan(declare(), 1000.0, Costing(500.0, "as given", 0.0021, 0.5))
    assert known.triton_instances == 3  # 2.1 are busy, each for 0.7 of its time
    assert known.cost_per_day == pytest.approx(43.2)  # 86.4 million


def test_redis_keeps_times_values_and_ids_of_the_windows() -> None:
    [key] = declare().plan.keys
    entry = 3 + 4 * (len(key.values) + 1)  # a time of 3 bytes, the values, and the label
    made = plan(declare(), 10.0, Costing(1000.0, "as given"))
    assert made.redis_bytes == 10 * (key.kept * entry + key.remember * 8)
    assert key.kept >= DAY
    assert key.remember == HOUR


def test_without_windows_redis_keeps_ids_alone() -> None:
    made = plan(declare(features=[Column("amount")]), 10.0, Costing(1000.0, "as given"))
    assert made.redis_bytes == 10 * HOUR * (3 + 8)


def test_the_command_prints_one_table_or_one_object(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    asked = ["plan", "card_fraud", "--events-per-second", "5000"]
    shown = CliRunner().invoke(app, [*asked, "--rate", "2000"])
    assert shown.exit_code == 0, shown.output
    assert "scoring workers" in shown.output
    found = CliRunner().invoke(app, [*asked, "--json"])
    made = json.loads(found.output)
    assert made["source"].startswith("rehearsed in memory")
    assert "none runs here" in made["source"]
    assert made["workers"] >= 1
    assert made["rate"] > 100


async def test_workers_that_run_are_found_by_their_logs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    logs = tmp_path / "logs" / "orders"
    logs.mkdir(parents=True)
    said = {"event": "serving metrics", "at": "http://127.0.0.1:1/metrics"}
    (logs / "score-1.log").write_text(f"{json.dumps({'event': 'started'})}\n{json.dumps(said)}\n")
    (logs / "label.log").write_text(json.dumps(said))
    settings = Settings(state_dir=tmp_path)
    now, asked = [0.0], list[str]()

    async def fetched(address: str) -> str:
        asked.append(address)
        return (
            f"driftloop_batch_records_sum {800 * now[0]}\ndriftloop_busy_seconds_total {now[0]}\n"
            "driftloop_lag_records 9000\n"
            'driftloop_triton_use{endpoint="a:1",version="1"} 0.2\n'
            'driftloop_triton_use{endpoint="b:1",version="1"} 0.2\n'
        )

    async def nobody(address: str) -> str:
        del address
        raise ConnectionRefusedError

    monkeypatch.setattr(looking, "fetch", nobody)
    assert await true_rate(settings, declare()) == (0, 0.0, 0.0)

    async def pause(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(looking, "_fetched", fetched)
    monkeypatch.setattr(asyncio, "sleep", pause)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    found = await true_rate(settings, declare())
    assert found[:2] == (1, 800.0)
    assert found.triton_seconds == pytest.approx(0.4 / 800)
    assert set(asked) == {"http://127.0.0.1:1/metrics"}
