"""Versions rolled out by degrees on real servers: forwards, back, frozen, and through crashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from streams.aio.cancelling import cancel
from streams.kafka.topics import ensure_topics
from streams.ledger.state import LedgerState, Stage
from streams.ledger.topic import read_entries, read_state
from streams.records import Action, Example, FeedbackRecord, LedgerEntry, Scored, encode
from streams.settings import Settings
from streams.spec import Pipeline, RollOut
from streams.spec.layout import pack
from tests.faults.harness import Workers, publish
from tests.models import linear, manifest, promote_first, root
from tests.rollouts import module_of
from tests.waiting import until
from workers.cli import app
from workers.environment import environment
from workers.releases.candidate import Judged
from workers.releases.lifecycle import Lifecycle
from workers.rollouts.controller import RollOutController
from workers.terminal import out

T0 = 1_700_000_000.0
STEP = 10.0
"""Seconds of event time between two events."""
POLICY = RollOut(shadow="1h", canary=(0.1, 0.5), every="1h", least=300, harm=0.05, holdout=0.2)
FORWARDS = [
    (Action.PROMOTE, 0.0),
    (Action.CANDIDATE, 0.0),
    (Action.SHADOW, 0.0),
    (Action.CANARY, 0.1),
    (Action.CANARY, 0.5),
    (Action.PROMOTE, 0.8),
    (Action.SETTLE, 1.0),
]


def weights(first: float, second: float = 0.0) -> NDArray[np.float32]:
    return np.array([[first], [second], [0.0], [0.0]], np.float32)


CHAMPION = linear(4, factor=weights(1.0))
TWIN = linear(4, 0.001, factor=weights(1.0))
FRAGILE = linear(4, factor=weights(1.0, 1.0))
"""As good as the champion while the second feature is 0."""


class World:
    """Events as they were served and labelled, for as long as they are asked for."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._random = np.random.default_rng(5)
        self._count = 0
        self.second = 0.0
        """What the second feature is from now on."""
        self.feedback = True

    @property
    def now(self) -> float:
        return T0 + STEP * self._count

    async def go_on(self, count: int = 120) -> None:
        """The next events: served by the champion, with their labels."""
        topics, schema = self._pipeline.topics, self._pipeline.schema_hash
        vectors = self._random.normal(size=(count, 4)).astype(np.float32)
        vectors[:, 1] = self.second
        scores = 1 / (1 + np.exp(-vectors[:, 0].astype(float)))
        labels = (self._random.random(count) < scores).astype(float).tolist()
        served, examples, feedback = [], [], []
        for vector, score, label in zip(pack(vectors), scores.tolist(), labels, strict=True):
            name, at, key = f"e{self._count}", self.now, f"machine-{self._count % 97}"
            self._count += 1
            one = Scored(name, at, {}, vector, score, 1, None, schema)
            served.append((key.encode(), encode(one)))
            example = Example(name, at, vector, score, 1, label, at, "feedback", key, schema)
            examples.append((key.encode(), encode(example)))
            feedback.append((key.encode(), encode(FeedbackRecord(name, label, at))))
        await publish(self._settings, topics.scored, served)
        if self.feedback:
            await publish(self._settings, topics.feedback, feedback)
            await publish(self._settings, topics.examples, examples)


class Loop:
    """A roll-out that is under way."""

    def __init__(self, settings: Settings, pipeline: Pipeline, life: Lifecycle) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self.life = life
        self.world = World(settings, pipeline)
        self._controllers: list[asyncio.Task[None]] = []

    def control(self) -> None:
        """Start one more controller."""
        controller = RollOutController(self.settings, self.pipeline, self.life.steps)
        self._controllers.append(asyncio.create_task(controller.run()))

    def check(self) -> None:
        """Raise what has ended a controller."""
        for one in self._controllers:
            if one.done():
                one.result()
                raise AssertionError("a controller has ended")

    async def kill(self) -> None:
        """End the controllers wherever they are."""
        self.check()
        await cancel(*self._controllers)
        self._controllers.clear()

    async def state(self) -> LedgerState:
        return await read_state(self.settings, self.pipeline)

    async def until_stage(self, stage: Stage, share: float = 0.0) -> LedgerState:
        """Let the world go on until the roll-out is there."""
        async with asyncio.timeout(90):
            while True:
                now = await self.state()
                if (now.stage, now.share) == (stage, share):
                    return now
                self.check()
                await self.world.go_on()
                await asyncio.sleep(0.2)

    async def entries(self) -> list[LedgerEntry]:
        return await read_entries(self.settings, self.pipeline)

    async def actions(self) -> list[tuple[Action, float]]:
        return [(entry.action, entry.share) for entry in await self.entries()]


@asynccontextmanager
async def rolling_out(
    settings: Settings, folder: Path, name: str, challenger: bytes, policy: RollOut = POLICY
) -> AsyncIterator[Loop]:
    """A champion serves, the gate has let a challenger through, and a shadow runs."""
    pipeline = module_of(folder, name, policy)
    await ensure_topics(settings, pipeline)
    await promote_first(settings, pipeline, CHAMPION)
    life = Lifecycle(settings, pipeline)
    loop = Loop(settings, pipeline, life)
    with ExitStack() as ending:
        worker = ending.enter_context(Workers(settings, pipeline, folder)).start("shadow")
        made = manifest(
            pipeline, 0, challenger, parent=1, slices={"evaluate": [T0 - 10, T0]}, seed=5
        )
        entry = await life.release(Judged(made, challenger, Action.PROMOTE, "good enough"))
        assert entry.action is Action.CANDIDATE
        await until(worker.joined, "the shadow works", said=worker.said)
        loop.control()
        try:
            yield loop
            await loop.kill()
            assert worker.alive, worker.said()
        finally:
            await life.close()


async def test_a_twin_comes_to_serve_everybody_and_settles(
    settings: Settings, tmp_path: Path
) -> None:
    async with rolling_out(settings, tmp_path / "work", "rollout-twin", TWIN) as loop:
        await loop.until_stage(Stage.WATCH, 0.8)
        now = await loop.until_stage(Stage.NONE)
        assert (now.champion, now.previous) == (2, 1)
        assert await loop.actions() == FORWARDS
        entries = await loop.entries()
        assert [entry.by for entry in entries[2:]] == ["rollout"] * 5
        for entry in entries[3:]:
            assert entry.evidence["labelled"] >= POLICY.least
            assert -0.1 < entry.evidence["low"] < 0.0 < entry.evidence["high"] < POLICY.harm
        begun = [entry.event_time for entry in entries[2:]]
        assert all(after - before >= 3600 for before, after in pairwise(begun))


@pytest.mark.parametrize("killed", ["killed", "two at once"])
async def test_whatever_becomes_of_the_controller_the_ledger_is_the_same(
    settings: Settings, tmp_path: Path, killed: str
) -> None:
    name = f"rollout-{killed.replace(' ', '-')}"
    async with rolling_out(settings, tmp_path / "work", name, TWIN) as loop:
        if killed == "two at once":
            loop.control()
        for stage, share in [
            (Stage.SHADOW, 0.0),
            (Stage.CANARY, 0.1),
            (Stage.CANARY, 0.5),
            (Stage.WATCH, 0.8),
            (Stage.NONE, 0.0),
        ]:
            await loop.until_stage(stage, share)
            if killed == "killed":
                await loop.world.go_on()
                await loop.kill()
                loop.control()
        counted, state = [], LedgerState()
        for entry in await loop.entries():
            if state.after(entry) is not state:
                counted.append((entry.action, entry.share))
            state = state.after(entry)
        assert counted == FORWARDS


async def test_one_that_breaks_in_production_is_taken_back(
    settings: Settings, tmp_path: Path
) -> None:
    """By its labels: its scores are distributed as before."""
    policy = replace(POLICY, canary=(0.5,))
    async with rolling_out(settings, tmp_path / "work", "rollout-breaks", FRAGILE, policy) as loop:
        await loop.until_stage(Stage.WATCH, 0.8)
        loop.world.second, broke = 1.5, loop.world.now
        now = await loop.until_stage(Stage.NONE)
        assert now.champion == 1
        last = (await loop.entries())[-1]
        assert (last.action, last.version, last.by) == (Action.ROLLBACK, 1, "rollout")
        assert last.reason.startswith("proven worse")
        took = last.event_time - broke
        print(f"broken, and taken back {took / 3600:.1f} h of event time later: {last.reason}")
        assert took < loop.pipeline.policies.evaluate.every_seconds
        publisher = loop.life.publisher
        assert publisher.repository.configured() == [1]


@pytest.mark.parametrize(
    ("name", "challenger", "why"),
    [
        ("flipped", linear(4, factor=weights(-1.0)), "the other way round"),
        ("constant", linear(4, factor=0.0), "of each of"),
        ("shifted", linear(4, -4.0, factor=weights(1.0)), "its mean score is"),
        ("nan", root(4), "no finite score for"),
        ("worse", linear(4, factor=weights(0.0, 0.0) + 0.3), "proven worse"),
    ],
)
async def test_a_bad_one_is_thrown_out_and_never_served(
    settings: Settings, tmp_path: Path, name: str, challenger: bytes, why: str
) -> None:
    folder, name = tmp_path / "work", f"rollout-{name}"
    async with rolling_out(settings, folder, name, challenger) as loop:
        loop.world.feedback = why == "proven worse"  # the others are found without a label
        now = await loop.until_stage(Stage.NONE)
        assert now.champion == 1
        last = (await loop.entries())[-1]
        assert (last.action, last.version) == (Action.REJECT, 2)
        assert why in last.reason
        assert Action.CANARY not in {action for action, _ in await loop.actions()}


def run_command(*arguments: str) -> str:
    """A command's output, which says so where it failed."""
    result = CliRunner().invoke(app, arguments)
    return f"{result.output}{result.exception or ''}"


async def test_without_feedback_it_freezes_and_goes_on_with_it(
    settings: Settings, tmp_path: Path
) -> None:
    async with rolling_out(settings, tmp_path / "work", "rollout-frozen", TWIN) as loop:
        before = await loop.until_stage(Stage.CANARY, 0.1)
        loop.world.feedback = False
        async with asyncio.timeout(60):
            while not (now := await loop.state()).frozen:
                await loop.world.go_on()
        assert (now.frozen, now.stage, now.share) == ("rollout", Stage.CANARY, 0.1)
        assert now.since == before.since
        loop.world.feedback = True
        await loop.until_stage(Stage.CANARY, 0.5)
        actions: Sequence[Action] = [action for action, _ in await loop.actions()]
        assert actions[-3:] == [Action.FREEZE, Action.THAW, Action.CANARY]


async def test_an_operator_freezes_thaws_and_takes_back(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 200)
    monkeypatch.syspath_prepend(tmp_path / "work")
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    async def said(*command: str) -> str:
        return await asyncio.to_thread(run_command, *command, "rollout_operator")

    async with rolling_out(settings, tmp_path / "work", "rollout-operator", TWIN) as loop:
        await loop.until_stage(Stage.SHADOW)
        assert "version 2 is in the shadow of version 1" in await said("models", "list")
        assert "frozen at 0 % of the entities" in await said("freeze", "--reason", "a holiday")
        assert "are frozen already" in await said("freeze", "--reason", "again")
        for _ in range(8):
            await loop.world.go_on(180)
            await asyncio.sleep(0.2)
        now = await loop.state()
        assert (now.stage, now.frozen) == (Stage.SHADOW, "operator")
        assert "frozen by the operator" in await said("models", "list")
        assert "roll-outs go on" in await said("thaw")
        assert "are not frozen" in await said("thaw")
        await loop.until_stage(Stage.CANARY, 0.1)
        assert "version 2 serves 10 % of the entities, 1 the others" in await said("models", "list")
        assert "version 2 is taken back; version 1 serves all" in await said("rollback")
        taken = (await loop.entries())[-1]
        assert (taken.action, taken.version, taken.by) == (Action.REJECT, 2, "operator")
        now = await loop.state()
        assert (now.stage, now.champion) == (Stage.NONE, 1)
