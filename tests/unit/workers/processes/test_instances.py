"""Instances are changed while others go on, again where Triton was away, never to other files."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from streams.errors import Unavailable
from streams.ledger.state import LedgerState
from streams.settings import Settings
from streams.spec import Infer, Pipeline, Policies, Scale
from tests.models import MemoryTriton, linear, manifest
from tests.synthetic import declare
from tests.waiting import until
from workers.processes import instances
from workers.processes.instances import InstanceScaling
from workers.releases.publisher import Publisher
from workers.resources.decision import Servers, TritonUse

BUSY = Servers({"a:1": TritonUse(0.99, 0.02, 0.01)}, waiting=0.8, cpu=0.3)
CALM = replace(BUSY, triton={"a:1": TritonUse(0.1, 0.0, 0.01)})
POLICIES = Policies(infer=Infer(most_instances=2), scale=Scale(idle="30s"))


@dataclass
class Running:
    """A model server in memory, who scales its instances, and a clock."""

    settings: Settings
    pipeline: Pipeline
    triton: MemoryTriton
    publisher: Publisher
    known: LedgerState
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.loads = list[int]()
        self.answers = asyncio.Event()
        self.answers.set()
        self.away = False
        load = self.triton.load

        async def loading(model: str = "") -> None:
            await self.answers.wait()
            if self.away:
                raise Unavailable("Triton", "a:1", "DRIFTLOOP_TRITON")
            await load(model)
            self.loads.append(self.publisher.instances)

        self.triton.load = loading  # type: ignore[method-assign]
        self.start()

    def start(self) -> None:
        """A scaler, in place of the one before."""
        self.scaling = InstanceScaling(self.settings, self.pipeline, self.publisher)

    async def look(self, servers: Servers, seconds: int) -> list[str]:
        """A look each second; what was said."""
        said = []
        for _ in range(seconds):
            self.now += 1.0
            said.append(await self.scaling.look(servers))
            changing = self.scaling._changing
            if changing is not None and self.answers.is_set():
                await asyncio.wait({changing})
        return [one for one in said if one]


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    settings = Settings(model_repository=tmp_path, triton="memory")
    pipeline = replace(declare("scaled"), policies=POLICIES)
    triton = MemoryTriton(settings, pipeline)
    publisher = Publisher(settings, pipeline, triton, triton)
    data = linear(4)
    first = manifest(pipeline, 1, data)
    publisher.stage(first, data, "")
    known = LedgerState(champion=1, promoted=(1,), versions={1: first})
    await publisher.serve(1, known)
    made = Running(settings, pipeline, triton, publisher, known)

    async def read_state(*_: object) -> LedgerState:
        return made.known

    monkeypatch.setattr(instances, "read_state", read_state)
    monkeypatch.setattr(instances, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


async def test_they_rise_and_fall_and_nobody_waits_for_triton(running: Running) -> None:
    assert await running.look(CALM, 40) == []
    assert running.loads == [1], "what was configured before it came is carried out once"
    running.answers.clear()
    assert await running.look(BUSY, 5) == []
    await until(lambda: str(running.scaling) == "instances 2", "Triton is told, and takes its time")
    assert await running.look(BUSY, 5) == []
    running.answers.set()
    [said] = await running.look(BUSY, 3)
    assert said.startswith("instances 1 -> 2: they work 99% of the time")
    [said] = await running.look(BUSY, 30)
    assert "raise most_instances, or name one more in DRIFTLOOP_TRITON" in said
    assert str(running.scaling) == "instances 2 (most_instances limits)"
    [said] = await running.look(CALM, 60)
    assert said.startswith("instances 2 -> 1: ")
    assert running.loads == [1, 2, 1]
    assert str(running.scaling) == "instances 1"


async def test_where_the_machine_is_full_the_cause_is_told_once(running: Running) -> None:
    await running.look(CALM, 40)
    said = await running.look(replace(BUSY, cpu=0.95), 30)
    assert said == [
        "instances 1: Triton limits and no core is left here for more of them - name one more in "
        "DRIFTLOOP_TRITON, on another machine"
    ]
    assert str(running.scaling) == "instances 1 (this machine limits)"
    assert running.loads == [1]


async def test_who_was_away_is_told_again_and_so_by_a_successor(running: Running) -> None:
    await running.look(CALM, 40)
    running.away = True
    [said, _limit] = await running.look(BUSY, 60)
    assert said.startswith("2 instances are configured, and not everywhere started: cannot reach")
    running.start()
    running.away = False
    await running.look(CALM, 3)
    assert running.loads == [1, 2]


async def test_a_version_that_was_changed_is_not_loaded_for_it(running: Running) -> None:
    await running.look(CALM, 40)
    (running.publisher.repository.directory(1) / "model.onnx").write_bytes(linear(4, bias=5.0))
    [said] = await running.look(BUSY, 60)
    assert said.startswith("instances stay 1: version 1 was changed after it was published")
    assert running.loads == [1]
    assert running.publisher.instances == 1
