"""Who serves which event while a version is rolled out, and who answers where it does not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from streams.adapters.memory.scorer import FixedChampion
from streams.errors import ModelError, Unavailable
from streams.ports.models import Beside
from streams.records import ARMS, CANARY, HOLDOUT
from streams.scoring.inference import Inference
from streams.scoring.served import ServedScores
from streams.spec import Policies, RollOut
from tests.unit.pipelines import declare

COUNT, SHARE = 400, 0.25
NAMES = [b"%d" % number for number in range(COUNT)]
VECTORS = np.arange(COUNT, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
TRIAL = Beside(4, 0.125, CANARY, 4, SHARE)
HELD = Beside(3, 0.125, HOLDOUT, 4, 1.0 - SHARE)
FAILURES = [ModelError("wrong"), Unavailable("version 4", "memory", "networks", "not loaded")]


@dataclass
class Rivals:
    """Version n says n and the event's number; some fail as told."""

    failing: dict[int, Exception | None] = field(default_factory=dict)
    """Version -> how it fails; None for it hangs."""
    asked: list[int] = field(default_factory=list)

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked.append(version)
        if version in self.failing:
            error = self.failing[version]
            if error is None:
                await asyncio.Event().wait()
                raise AssertionError
            raise error
        return vectors[:, :1] + 1000 * version

    async def close(self) -> None:
        """Nothing to release."""


def inference(server: Any, beside: Beside | None) -> Inference:
    pipeline = declare(policies=Policies(rollout=RollOut(slowest=0.05)))
    return Inference(pipeline, server, FixedChampion(5, 0.5, beside))


async def served(asked: Inference, sizes: list[int] | None = None) -> ServedScores:
    found = await asked.score(VECTORS, lambda: NAMES, sizes or [COUNT], time.monotonic())
    assert (found.scores[:, 0] % 1000).tolist() == VECTORS[:, 0].tolist(), "in the events' order"
    return found


def in_arm(found: ServedScores) -> NDArray[np.bool_]:
    return found.arms > 0


@pytest.mark.parametrize("beside", [TRIAL, HELD])
@pytest.mark.parametrize("sizes", [[COUNT], [100, 0, 300]])
async def test_each_arm_is_served_by_its_version(beside: Beside, sizes: list[int]) -> None:
    server = Rivals()
    found = await served(inference(server, beside), sizes)
    theirs = in_arm(found)
    assert {ARMS[arm] for arm in found.arms[theirs]} == {beside.arm}
    assert 60 < theirs.sum() < 140
    assert found.versions.tolist() == np.where(theirs, beside.version, 5).tolist()
    assert (found.scores[:, 0] // 1000).tolist() == found.versions.tolist()
    assert found.thresholds.tolist() == np.where(theirs, 0.125, 0.5).tolist()
    assert found.propensities.tolist() == np.where(theirs, SHARE, 1 - SHARE).tolist()


async def test_without_another_version_all_are_the_champions() -> None:
    found = await served(inference(Rivals(), None))
    assert set(found.versions.tolist()) == {5}
    assert not in_arm(found).any()
    assert set(found.propensities.tolist()) == {1.0}


@pytest.mark.parametrize("failure", [*FAILURES, None])
async def test_the_champion_answers_for_a_version_that_does_not(failure: Exception | None) -> None:
    server = Rivals({4: failure})
    asked = inference(server, TRIAL)
    with capture_logs() as logs:
        begun = time.monotonic()
        for _ in range(20):
            found = await served(asked)
        took = time.monotonic() - begun
    assert set(found.versions.tolist()) == {5}
    assert in_arm(found).any(), "they stay in their arm"
    assert server.asked.count(4) == 1, "it is not asked again at once"
    assert took < 1.0
    [said] = [line for line in logs if line["log_level"] == "error"]
    assert (said["version"], said["arm"]) == (4, CANARY)


async def test_it_serves_again_when_it_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Rivals({4: FAILURES[0]})
    asked = inference(server, TRIAL)
    await served(asked)
    server.failing.clear()
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 60)
    monkeypatch.setattr("streams.scoring.beside.time", later)  # the event loop keeps its clock
    assert set((await served(asked)).versions.tolist()) == {4, 5}


async def test_single_events_on_which_it_errs_are_the_champions() -> None:
    class Odd(Rivals):
        async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
            scores = await super().infer(version, vectors)
            if version == 4:
                scores[vectors[:, 0] % 2 == 0] = np.nan
            return scores

    found = await served(inference(Odd(), TRIAL))
    odd = VECTORS[:, 0] % 2 == 1
    assert set(found.versions[in_arm(found) & odd].tolist()) == {4}
    assert set(found.versions[in_arm(found) & ~odd].tolist()) == {5}
    assert set(found.thresholds[found.versions == 5].tolist()) == {0.5}
