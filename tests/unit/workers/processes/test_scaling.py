"""A loop's scoring workers come and go with the load, each decision is told, and why none helps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from streams.errors import ConfigurationError
from streams.kafka.topics import topics_read
from streams.settings import Settings
from streams.spec import Policies, Scale
from tests.unit.pipelines import declare
from workers.commands.running import _number
from workers.processes import scaling
from workers.processes.loop import Loop, worker_name
from workers.processes.scaler import Scaler, followed
from workers.processes.scaling import Scaling
from workers.processes.status import Status
from workers.processes.supervisor import Command
from workers.resources import idling

POLICY = Scale(max=3, catch_up="60s", use=0.7, idle="30s")
PARTITIONS = range(6)


class Running:
    """A supervisor, Kafka, Triton and workers of a fixed speed, on a clock of its own."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, policy: Scale = POLICY, role: str = "score"
    ) -> None:
        self.now = 1000.0
        self.role = role
        self.workers = [worker_name(role, 1)]
        self.told = list[str]()
        self.written = 0.0
        self.done = 0.0
        self.markers = 0
        """Offsets of each partition that hold the end of a transaction."""
        self.extra = ""
        self.unloaded = 0
        self._counted: dict[str, list[float]] = {}
        self._status = Status()
        declared = declare(policies=Policies(scale=policy))
        self._topics = topics_read(declared, role)
        loop = Loop(Settings(), self, None, Path(), self._command, {role: 1})  # type: ignore[arg-type]
        self.scaling = Scaling(loop, declared, self._status, self.told.append)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(scaling._Machine, "use", lambda _: 0.1)
        monkeypatch.setattr(idling, "TritonControls", lambda *_: self)

    def add(self, command: Command) -> None:
        self.workers.append(command.name)

    async def remove(self, name: str) -> None:
        self.workers.remove(name)
        self._status.ended(name)

    async def unload_all(self) -> None:
        self.unloaded += 1

    async def close(self) -> None:
        pass

    async def ends(self, topic: str) -> dict[int, int]:
        assert topic in self._topics
        return {p: int(self.written / len(PARTITIONS)) + self.markers for p in PARTITIONS}

    async def committed(
        self, group: str, topic: str, partitions: Iterable[int]
    ) -> dict[int, int | None]:
        assert group == f"driftloop.orders.{self.role}"
        return {p: int(self.done / len(PARTITIONS)) for p in partitions}

    async def run(self, seconds: int, arriving: float) -> None:
        """So many events arrive a second; a worker does 1,000."""
        for _ in range(seconds):
            self.now += 1.0
            self.written += arriving
            can = 1000.0 * len(self.workers)
            work = min(self.written - self.done, can)
            self.done += work
            for number, name in enumerate(self.workers):
                counts = self._counted.setdefault(name, [0.0, 0.0])
                counts[0] += work / len(self.workers)
                counts[1] += work / can
                lag = (self.written - self.done) / len(PARTITIONS)
                text = (
                    f"driftloop_batch_records_sum {counts[0]}\n"
                    f"driftloop_busy_seconds_total {counts[1]}\n"
                    f'driftloop_stage_seconds_sum{{stage="infer"}} {counts[1]}\n{self.extra}'
                )
                text += "".join(
                    f'driftloop_lag_records{{partition="{p}",topic="{topic}"}} {lag}\n'
                    for p in PARTITIONS
                    for topic in self._topics
                    if p % len(self.workers) == number
                )
                self._status.take(name, text)
            await self.scaling.look(self)  # type: ignore[arg-type]

    @property
    def line(self) -> str:
        return self._status.line()

    def _command(self, role: str, number: int) -> Command:
        return Command(worker_name(role, number), [role, "m"], {})


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Running:
    return Running(monkeypatch)


async def test_workers_come_with_the_load_and_go_when_they_were_idle(running: Running) -> None:
    await running.run(10, arriving=500)
    assert running.workers == ["score-1"]
    assert "workers 1 (auto: 500 a second" in running.line
    await running.run(15, arriving=1900)
    assert running.workers == ["score-1", "score-2", "score-3"]
    assert len(running.told) == 1
    assert running.told[0].startswith("workers 1 -> 3: ")
    await running.run(60, arriving=1900)
    assert len(running.told) == 1
    assert running.done == running.written
    await running.run(34, arriving=100)
    assert len(running.workers) == 3
    await running.run(10, arriving=100)
    assert running.workers == ["score-1"]
    assert running.told[1].startswith("workers 3 -> 1: ")
    assert "1 would do for 30s now" in running.told[1]


async def test_what_limits_is_told_once_while_it_lasts(running: Running) -> None:
    limited = 'driftloop_triton_use{endpoint="a:1",pipeline="orders",version="1"} 0.99\n'
    running.extra = limited
    await running.run(30, arriving=1900)
    assert running.workers == ["score-1"]
    assert len(running.told) == 1
    assert "Triton limits, no worker is added: at a:1 instances work 99%" in running.told[0]
    assert "Triton limits" in running.line
    running.extra = ""
    await running.run(6, arriving=1900)
    assert running.workers == ["score-1", "score-2", "score-3"]


async def test_nothing_is_decided_while_workers_wait_for_a_server(running: Running) -> None:
    for i in range(20):
        running.extra = f'driftloop_retries_total{{stage="infer"}} {i}\n'
        await running.run(1, arriving=1900)
    assert running.workers == ["score-1"]
    assert running.told == []
    assert "auto: waiting for Triton" in running.line


async def test_a_worker_that_tells_nothing_holds_decisions_back(running: Running) -> None:
    await running.run(10, arriving=1900)
    assert len(running.workers) == 3
    running._status.ended("score-2")
    running.workers.remove("score-2")  # it is started anew, say
    before = list(running.told)
    await running.run(40, arriving=50)
    assert running.told == before


async def test_none_is_left_where_nothing_arrives_and_one_comes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Running(monkeypatch, replace(POLICY, min=0))
    await running.run(60, arriving=200)
    assert (running.workers, running.unloaded) == (["score-1"], 0)
    running.markers = 1  # the producer's transactions have ends, which nobody commits
    await running.run(45, arriving=0)
    assert (running.workers, running.unloaded) == ([], 1)
    assert running.told[-1].startswith("workers 1 -> 0: ")
    assert "workers 0 (auto: 0 a second)" in running.line
    await running.run(100, arriving=0)
    assert running.workers == []
    running.written += 1
    running.written = math.ceil(running.written / len(PARTITIONS)) * len(PARTITIONS)
    await running.run(1, arriving=0)
    assert running.workers == ["score-1"]
    assert running.told[-1].startswith("workers 0 -> 1: ")


async def test_who_has_little_to_do_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(monkeypatch, replace(POLICY, min=0))
    for _ in range(10):
        await running.run(1, arriving=len(PARTITIONS))
        await running.run(19, arriving=0)
    assert running.workers == ["score-1"]
    assert running.told == []


async def test_labellers_follow_their_load_and_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(monkeypatch, replace(POLICY, min=0), "label")
    await running.run(15, arriving=1900)
    assert running.workers == ["label", "label-2", "label-3"]
    assert running.told[0].startswith("labellers 1 -> 3: ")
    assert "labellers 3" in running.line
    await running.run(90, arriving=0)
    assert (running.workers, running.unloaded) == (["label"], 0)
    assert "labellers 1 (auto: " in running.line


def test_workers_are_a_number_or_auto() -> None:
    assert (_number("3"), _number("auto")) == (3, None)
    for wrong in ("0", "-1", "many", "1.5"):
        with pytest.raises(typer.BadParameter, match="neither a number above 0 nor `auto`"):
            _number(wrong)


@pytest.mark.parametrize(
    ("wanted", "there", "told"),
    [
        (3, 3, 3),
        (2, 3, 2),
        (4, 3, 4),
        (11, 10, 12),
        (13, 10, 13),
        (0, 5, 0),
        (1, 0, 1),
        (20, 19, 21),
    ],
)
def test_more_are_told_than_the_hpa_passes_over(wanted: int, there: int, told: int) -> None:
    assert followed(wanted, there) == told


def test_who_does_not_say_where_workers_are_is_told_how() -> None:
    with pytest.raises(ConfigurationError, match="DRIFTLOOP_WORKERS does not say"):
        Scaler(Settings(), declare())
