"""`driftloop up --workers auto`: one worker, two, one, none, one; nothing lost or doubled."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from streams.adapters.triton.control import TritonControls
from streams.kafka.connection import producer
from streams.settings import Settings
from streams.spec import Pipeline
from tests.e2e.test_up import Up, predicted, settings_of
from tests.faults.harness import Output
from tests.models import linear, promote_first
from tests.waiting import until, until_sync
from workers.environment import find_pipeline
from workers.processes.notices import parsed

PIPELINE = '''\
"""A feature that takes its time: a worker does some 200 events a second, and hardly uses a core."""
import time
from dataclasses import replace
from streams.spec import Policies, Scale, Transform
from tests.synthetic import declare

def slow(columns):
    time.sleep(len(columns["a"]) / 200)
    return columns["a"]

declared = declare("paced")
pipeline = replace(
    declared,
    features=[*declared.features, Transform("slow", slow)],
    policies=Policies(scale=Scale(min=0, max=2, catch_up="10s", idle="15s")),
)
'''
CALM, BUSY = 50, 250
"""Events a second: what one worker does with ease, and more than it can."""


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    (tmp_path / "paced.py").write_text(PIPELINE)
    started = Up(
        tmp_path,
        "paced",
        "--workers",
        "auto",
        DRIFTLOOP_BATCH_RECORDS="20",
        DRIFTLOOP_PARTITIONS="8",
    )
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.wait()


class Sending:
    """Events at a rate that may be changed, until it is cancelled."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.rate = CALM
        self.sent = 0

    async def run(self) -> None:
        async with producer(self._settings, linger_ms=5) as out:
            due = time.monotonic()
            while True:
                due = max(due + 0.1, time.monotonic() - 1)
                await self._send(out, self.rate // 10)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _send(self, out: AIOKafkaProducer, count: int) -> None:
        for _ in range(count):
            self.sent += 1
            made = event(f"e{self.sent}", f"m{self.sent % 97}")
            key = str(made["machine"]).encode()
            await out.send("paced.events", json.dumps(made).encode(), key=key)


def event(reading_id: str, machine: str = "m0") -> dict[str, object]:
    """An event of the pipeline, of now."""
    return {
        "reading_id": reading_id,
        "machine": machine,
        "at": time.time(),
        **dict.fromkeys(("a", "b", "c", "constant"), 1.0),
    }


def longest_pause(records: list[ConsumerRecord]) -> float:
    """Seconds between two predictions of a partition, at the most."""
    found = 0.0
    for partition in {record.partition for record in records}:
        times = [record.timestamp for record in records if record.partition == partition]
        found = max(found, *(b - a for a, b in pairwise(times)))
    return found / 1000


def longest_handover(logs: Path) -> float:
    """Seconds from when a partition was given up until somebody had it, at the most."""
    found = list[tuple[float, str, list[int]]]()
    for log in logs.glob("score-*.log"):
        for line in map(parsed, log.read_text().splitlines()):
            if str(line.get("event", "")).startswith("partitions "):
                at = datetime.fromisoformat(line["timestamp"]).timestamp()
                found.append((at, line["event"], line["partitions"]))
    longest, given_up = 0.0, dict[int, float]()
    for at, event, partitions in sorted(found):
        for partition in partitions:
            if event == "partitions given up":
                given_up[partition] = at
            else:
                longest = max(longest, at - given_up.pop(partition, at))
    return longest


async def test_as_many_workers_as_the_load_asks_for(
    up: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    pipeline = find_pipeline("paced")
    until_sync(lambda: "Ctrl-C ends it" in up.said or up.process.poll() is not None)
    settings = settings_of(tmp_path).model_copy(update={"model_repository": tmp_path / "models"})
    await promote_first(settings, pipeline, linear(len(pipeline.feature_names)))
    sending = Sending(settings)
    task = asyncio.create_task(sending.run())
    async with Output(settings, "paced.predictions") as out:
        await until(lambda: out.has(10), "predictions come")
        await until(lambda: "workers 1 (auto: " in up.said, "the status line says so")
        sending.rate = BUSY
        more, fewer = re.compile(r"workers 1 -> 2: .*"), re.compile(r"workers 2 -> 1: .*")
        await until(lambda: more.search(up.said), "there are two", said=lambda: up.said)
        behind = sending.sent - len(out.records)
        took = await until(
            lambda: out.has(sending.sent - BUSY),
            "the backlog is gone",
            within=90.0,
            said=lambda: up.said,
        )
        print(f"a backlog of {behind:,} is gone {took:.0f} s after the decision")
        await until(lambda: "workers 2 (auto: " in up.said, "the status line says so")
        sending.rate = CALM
        await until(
            lambda: fewer.search(up.said), "there is one", within=120.0, said=lambda: up.said
        )
        await until(lambda: scorers(up) == 1, "the second has gone")
        left = out.records[-1].offset if out.records else 0
        await until(lambda: out.has(left), "the first goes on")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: out.has(sending.sent), "all are scored", within=90.0)
        await out.has(sending.sent + 1)
    seen = Counter(json.loads(record.value)["event_id"] for record in out.records)
    lost = {f"e{i + 1}" for i in range(sending.sent)} - seen.keys()
    handover = longest_handover(tmp_path / "state" / "logs" / "paced")
    print(
        f"{sending.sent:,} events, {len(lost)} lost; a partition was without a worker for "
        f"{handover:.2f} s and without a prediction for {longest_pause(out.records):.2f} s at most"
    )
    print("\n".join(line for line in up.said.splitlines() if re.search(r"workers \d -> ", line)))
    assert not lost
    assert {name for name, count in seen.items() if count > 1} == set()
    assert " ended (" not in up.said
    assert len(more.findall(up.said)) == len(fewer.findall(up.said)) == 1
    await goes_to_sleep_and_wakes(up, settings, pipeline)


async def goes_to_sleep_and_wakes(up: Up, settings: Settings, pipeline: Pipeline) -> None:
    """Where nothing arrives no worker runs and no model is loaded; an event brings them back."""
    await until(lambda: "workers 1 -> 0: " in up.said, "nobody", within=90.0, said=lambda: up.said)
    await until(lambda: scorers(up) == 0, "the last has gone")
    control = TritonControls(settings, pipeline.name)
    try:
        await until(lambda: unloaded(control), "the model is unloaded")
        asked = time.monotonic()
        woken = await predicted(settings, event("woken"), pipeline.name)
        print(f"woken by an event, whose prediction came after {time.monotonic() - asked:.1f} s")
        assert (woken["version"], woken["degraded"]) == (1, False)
        assert "workers 0 -> 1: " in up.said
        assert await control.ready(1)
    finally:
        await control.close()


async def unloaded(control: TritonControls) -> bool:
    """Whether no Triton serves the first version."""
    return not await control.ready(1)


def scorers(up: Up) -> int:
    """How many scoring workers run."""
    found = 0
    for child in up.children():
        with suppress(psutil.Error):  # it has just ended
            found += child.cmdline()[-2:-1] == ["score"]
    return found
