"""`P.costs` of a real loop has what the kernel says that its processes used."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from msgspec import structs
from prometheus_client import REGISTRY

from streams.kafka.connection import producer
from streams.kafka.kept import kept_bytes
from streams.kafka.topics import ensure_topics
from streams.kafka.writing import put, send_all
from streams.ledger.topic import read_state
from streams.metering.account import DAY, Usage
from streams.metering.prices import Prices
from streams.metering.reading import cpu_of_children
from streams.records import encode
from streams.settings import Settings
from tests import paying
from tests.integration.test_secured import records
from tests.integration.test_trainer import trainer
from tests.stack import own_stack
from tests.synthetic import made, pipeline, write_examples
from tests.waiting import until
from workers.costs import purse
from workers.costs.reading import read_usages
from workers.costs.summing import TrainingRun, predictions, runs
from workers.processes.loop import running_loop
from workers.processes.metering import metered_servers

WORKERS = ("score", "label", "evaluate", "trainer", "training")
SERVERS = ("kafka", "controller", "triton", "redis")
WITHIN = 0.02
ENDING = 0.3
"""CPU seconds at most that a process uses to end, after its last reading."""


def by_psutil(pids: Mapping[str, int]) -> float:
    """CPU seconds of processes that run, with the children that they have waited for."""
    found = [one for pid in pids.values() for one in family(psutil.Process(pid))]
    return sum(sum(one.cpu_times()[:4]) for one in found)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def cpu(usages: list[Usage], *roles: str) -> float:
    return sum(one.cpu_seconds for one in usages if one.role in roles)


async def through_the_loop(settings: Settings) -> None:
    """Return when events were scored, labels joined, and a version trained and published."""
    async with producer(settings) as sending:
        await send_all(sending, records())
    await until(lambda: _serves(settings), "a version serves", within=120)


async def _serves(settings: Settings) -> bool:
    return (await read_state(settings, pipeline)).champion > 0


@pytest.mark.timeout(240)
async def test_the_ledger_of_costs_is_what_the_kernel_says(tmp_path: Path) -> None:
    said: list[object] = []
    with own_stack(tmp_path) as (stack, settings):
        before = cpu_of_children()
        async with (
            metered_servers(settings, pipeline, stack.pids),
            running_loop(settings, "tests.synthetic", 1, said.append) as loop,
        ):
            await through_the_loop(loop.settings)
            running = by_psutil(loop.supervisor.pids)
            servers = by_psutil(stack.pids())
        ended = cpu_of_children() - before
        found = await read_usages(settings, pipeline)

    told = {role: round(cpu(found, role), 2) for role in (*WORKERS, *SERVERS)}
    print(
        f"CPU seconds by role {told}; workers: ledger {cpu(found, *WORKERS):.2f}, psutil "
        f"{running:.2f}, kernel after their end {ended:.2f}; servers: ledger "
        f"{cpu(found, *SERVERS):.2f}, psutil {servers:.2f}"
    )
    assert all(seconds > 0 for seconds in told.values())
    assert cpu(found, *WORKERS) == pytest.approx(running, rel=WITHIN)
    assert cpu(found, *SERVERS) == pytest.approx(servers, rel=WITHIN)
    assert 0 <= ended - cpu(found, *WORKERS) <= ENDING * len(WORKERS)

    # events and the records of a role are whole
    scored = [one for one in found if one.role == "score"]
    assert sum(one.events for one in scored) == 7 * 900 + 1
    assert predictions(found) == 7 * 900
    [run] = [one for one in found if one.role == "training"]
    assert (run.version, run.outcome) == (1, "promote")
    assert run.gib_hours * 3600 / run.seconds == pytest.approx(0.5, abs=0.45)  # GiB: torch is large
    assert len({one.process for one in found}) == len(found)


async def test_a_retrain_over_budget_waits_for_money(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purse, "EVERY", 0.2)
    declared = paying.pipeline
    settings = settings.model_copy(update={"pipeline": "tests.paying", "price_cpu_hour": 3600.0})
    await ensure_topics(settings, declared)
    await write_examples(settings, declared.topics.examples, made(7))
    now = time.time()
    dear = Usage(
        process="earlier",
        role="training",
        host="h",
        day=now // DAY * DAY,
        start=now - 90,
        until=now,
        seconds=90.0,
        cpu_seconds=9.0,
        gib_hours=0.0,
        outcome="reject",
    )
    await put(settings, declared.topics.costs, [(dear.key.encode(), encode(dear))])
    labels = {"pipeline": declared.name}

    def gauge(name: str) -> float | None:
        return REGISTRY.get_sample_value(f"driftloop_{name}", labels)

    async def ended() -> list[TrainingRun]:
        prices = Prices.of_settings(settings)
        found = runs(await read_usages(settings, declared), prices)
        return [run for run in found if run.version]

    async with trainer(settings, declared):
        await until(lambda: gauge("retrain_put_off"), "the retrain is put off")
        assert not await ended()
        # as if that had been two days ago
        past = structs.replace(dear, until=now - 2 * DAY, seconds=91.0)
        await put(settings, declared.topics.costs, [(past.key.encode(), encode(past))])
        await until(ended, "the run has been made, and is paid for")
    assert gauge("retrain_put_off") == 0
    [run] = await ended()
    assert (run.version, run.outcome) == (1, "promote")
    assert run.cost > 1  # torch alone takes more than a second to load


async def test_what_topics_keep_is_what_lies_on_the_brokers_disk(tmp_path: Path) -> None:
    with own_stack(tmp_path) as (_, settings):
        await ensure_topics(settings, pipeline)
        topics = (*pipeline.topics.partitioned, *pipeline.topics.single)
        before = await kept_bytes(settings, topics)
        await write_examples(settings, pipeline.topics.examples, made(7))
        after = await kept_bytes(settings, topics)
    assert before is not None
    assert after is not None
    logs = (tmp_path / "stack" / "kafka").rglob(f"{pipeline.name}.*/*.log")
    assert after - before == sum(path.stat().st_size for path in logs) > 100_000
