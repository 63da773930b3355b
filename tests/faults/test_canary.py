"""A canary that hangs or dies while it serves: nobody waits for it, and it is off in 5 s."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from streams.aio.cancelling import cancel
from streams.kafka.topics import ensure_topics
from streams.ledger.topic import append, new_entry, read_entries, read_state
from streams.records import CANARY, Action, Prediction, decoder
from streams.settings import Settings
from streams.spec import Pipeline, RollOut
from tests.faults.harness import Output, Workers, publish
from tests.models import challenge, linear, publish_rivals
from tests.rollouts import module_of
from tests.stack import own_stack
from tests.waiting import until
from workers.releases.lifecycle import Lifecycle
from workers.rollouts.controller import RollOutController

T0 = 1_700_000_000.0
SHARE = 0.5
POLICY = RollOut(shadow="1h", canary=(SHARE,), every="1h", slowest=0.25)
OFF = 5.0
"""Seconds until a version that does not answer serves nobody; the floor."""
DELAY = 2.0
"""Seconds within which each event is answered all the same, on a machine that is busy."""
_decode = decoder(Prediction).decode


def model_processes(triton: int, name: str, version: int) -> list[psutil.Process]:
    """The processes in which the embedded Triton runs a version."""
    children = psutil.Process(triton).children(recursive=True)
    return [one for one in children if f"/{name}/{version}/" in " ".join(one.cmdline())]


class Traffic:
    """Events at a steady pace, and how long each waited for its prediction."""

    def __init__(self, settings: Settings, pipeline: Pipeline, out: Output) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._out = out
        self._random = np.random.default_rng(3)
        self._count = 0
        self.ends = False
        self.sent: dict[str, float] = {}
        self.answered: dict[str, float] = {}
        self.predictions: list[Prediction] = []

    async def send(self) -> None:
        while not self.ends:
            records = []
            for _ in range(10):
                name, machine = f"e{self._count}", f"machine-{self._count % 97}"
                self._count += 1
                at = datetime.fromtimestamp(T0 + self._count, UTC).isoformat()
                a, b, c, d = self._random.normal(size=4).tolist()
                event = {"reading_id": name, "machine": machine, "at": at}
                event |= {"a": a, "b": b, "c": c, "constant": d}
                records.append((machine.encode(), json.dumps(event).encode()))
                self.sent[name] = time.monotonic()
            await publish(self._settings, self._pipeline.topics.events, records)
            await asyncio.sleep(0.05)

    async def receive(self) -> None:
        while True:
            seen = len(self._out.records)
            await self._out.has(seen + 1)
            now = time.monotonic()
            for record in self._out.records[seen:]:
                found = _decode(record.value or b"")
                self.answered.setdefault(found.event_id, now)
                self.predictions.append(found)

    def served(self) -> dict[str, set[int]]:
        """Versions by arm, of the last 200 predictions."""
        found: dict[str, set[int]] = {}
        for one in self.predictions[-200:]:
            found.setdefault(one.arm, set()).add(one.version)
        return found

    def longest(self) -> float:
        """Seconds that an event has waited for its prediction, or still does."""
        now = time.monotonic()
        return max(self.answered.get(name, now) - at for name, at in self.sent.items())


@asynccontextmanager
async def a_canary(settings: Settings, folder: Path) -> AsyncIterator[tuple[Pipeline, Traffic]]:
    """Version 2 serves a share beside version 1, under traffic, and a controller watches."""
    pipeline = module_of(folder, "canary", POLICY)
    await ensure_topics(settings, pipeline)
    champion = linear(len(pipeline.feature_names))
    second = await publish_rivals(settings, pipeline, champion, champion + b"")
    await challenge(settings, pipeline, second, since=T0)
    canary = new_entry(Action.CANARY, second, await read_state(settings, pipeline), "by a test")
    await append(settings, pipeline, msgspec.structs.replace(canary, share=SHARE, event_time=T0))
    life = Lifecycle(settings, pipeline)
    with ExitStack() as ending:
        workers = ending.enter_context(Workers(settings, pipeline, folder))
        score = workers.start("score")
        async with Output(settings, pipeline.topics.predictions) as out:
            traffic = Traffic(settings, pipeline, out)
            controller = RollOutController(settings, pipeline, life.steps)
            await until(score.joined, "it works", said=score.said)
            sending = asyncio.create_task(traffic.send())
            works = controller.run(), traffic.receive()
            tasks = [asyncio.create_task(work) for work in works]
            try:
                yield pipeline, traffic
                for task in (sending, *tasks):
                    assert not task.done(), task
                assert score.alive, score.said()
            finally:
                traffic.ends = True
                await sending
                await cancel(*tasks)
                await life.close()


@pytest.mark.parametrize("what", ["hangs", "dies"])
async def test_nobody_waits_for_a_canary_that_fails_and_it_is_off_at_once(
    tmp_path: Path, what: str
) -> None:
    with ExitStack() as ending:
        stack, settings = ending.enter_context(own_stack(tmp_path / "stack"))
        async with a_canary(settings, tmp_path / "work") as (pipeline, traffic):
            both = {"champion": {1}, CANARY: {2}}
            await until(lambda: len(traffic.predictions) > 300, "events are answered")
            await until(lambda: traffic.served() == both, "both arms are served")
            for name in list(traffic.sent):  # what waited for the start is another matter
                traffic.answered.setdefault(name, traffic.sent[name])
            traffic.sent.clear()
            [process] = model_processes(stack.pids()["triton"], pipeline.name, 2)
            if what == "hangs":
                process.suspend()
                ending.callback(process.kill)
            else:
                process.kill()
            begun = time.monotonic()

            async def taken_back() -> bool:
                return (await read_state(settings, pipeline)).challenger == 0

            await until(taken_back, "it is taken back")
            took = time.monotonic() - begun
            after = len(traffic.predictions) + 300
            await until(lambda: len(traffic.predictions) > after, "events are answered")
            assert traffic.served() == {"champion": {1}}
            print(f"{what}: off after {took:.1f} s, longest wait {traffic.longest():.2f} s")
            assert took < OFF
            assert traffic.longest() < DELAY
            last = (await read_entries(settings, pipeline))[-1]
            assert (last.action, last.version) == (Action.REJECT, 2)
            assert "does not answer" in last.reason
            answered_for_it = [
                one for one in traffic.predictions if (one.arm, one.version) == (CANARY, 1)
            ]
            assert answered_for_it
            assert {one.propensity for one in answered_for_it} == {SHARE}
