"""The trainer on real servers: examples in Kafka become versions in Triton, under traffic."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from streams.errors import TrainingError
from streams.kafka.topics import ensure_topics
from streams.ledger.state import LedgerState
from streams.ledger.topic import read_state
from streams.settings import Settings
from streams.spec import Model, Pipeline
from tests.models import linear
from tests.synthetic import DAY, START, declare, made, pipeline, write_examples
from tests.traffic import traffic
from tests.waiting import until
from workers.cli import app
from workers.environment import environment
from workers.examples.reading import OffsetRanges, read_examples
from workers.training.job import Job, Step, run_job
from workers.training.worker import run_trainer

MODULE = "tests.synthetic"


@asynccontextmanager
async def trainer(settings: Settings, declared: Pipeline) -> AsyncIterator[None]:
    """A trainer that runs while the block does, and stops when told to."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_trainer(settings, declared, stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await task


async def decided(settings: Settings, declared: Pipeline, watermark: float) -> LedgerState:
    """What the ledger says once a candidate of this watermark was decided on."""
    async with asyncio.timeout(150):
        while True:
            now = await read_state(settings, declared)
            if now.decided >= watermark:
                return now
            await asyncio.sleep(0.2)


async def test_versions_are_trained_published_and_reproduced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"pipeline": MODULE})
    await ensure_topics(settings, pipeline)
    topic = pipeline.topics.examples
    await write_examples(settings, topic, made(7))
    async with traffic(settings, pipeline) as seen:
        async with trainer(settings, pipeline):
            now = await decided(settings, pipeline, START + 6 * DAY - 3600)
            assert (now.champion, now.previous) == (1, 0)
            await seen.until_version(1)
            await write_examples(settings, topic, made(2, seed=1, first=7))
            now = await decided(settings, pipeline, START + 8 * DAY - 3600)
            assert (now.champion, now.previous) == (2, 1)
            await seen.until_version(2)
        assert seen.failures == []
        assert set(seen.answered) == {1, 2}

    await _a_restart_decides_nothing_again(settings, now)
    _a_manifest_gives_the_same_file(settings, monkeypatch)
    manifest = now.versions[2]
    assert manifest.parent == 1
    assert manifest.label_watermark == pytest.approx(START + 8 * DAY, abs=3600)
    assert {"gain", "gain_se", "anchor_low", "champion_average_precision"} <= set(manifest.metrics)


async def _a_restart_decides_nothing_again(settings: Settings, before: LedgerState) -> None:
    async with trainer(settings, pipeline):
        await asyncio.sleep(2)
    assert (await read_state(settings, pipeline)).decided == before.decided


def _a_manifest_gives_the_same_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    results = []

    def invoke() -> None:  # the command has an event loop of its own
        results.append(CliRunner().invoke(app, ["train", MODULE, "--from-version", "1"]))

    thread = threading.Thread(target=invoke)
    thread.start()
    thread.join()
    assert results[0].exit_code == 0, results[0].output
    assert "the same file" in results[0].output


async def test_a_window_reads_the_same_whenever_it_is_read(settings: Settings) -> None:
    declared = declare("windows")
    await ensure_topics(settings, declared)
    topic = declared.topics.examples
    examples = made(4, per_day=5000)
    await write_examples(settings, topic, examples)
    everything = OffsetRanges(dict.fromkeys(range(4), (0, 10000)))
    with pytest.raises(TrainingError, match=r"windows.examples-0:0-10000 is not in the topic"):
        await read_examples(settings, declared, everything)
    window = OffsetRanges({0: (100, 2000), 1: (0, 0), 2: (5, 1000)})
    begun = asyncio.get_running_loop().time()
    one = await read_examples(settings, declared, window)
    assert asyncio.get_running_loop().time() - begun < 5
    assert len(one.examples) == 1900 + 995
    await write_examples(settings, topic, made(1, first=4, seed=8))
    two = await read_examples(settings, declared, window)
    assert one.watermark == two.watermark
    assert (one.examples.event_time == two.examples.event_time).all()
    assert (one.examples.vector == two.examples.vector).all()


async def test_a_run_that_cannot_be_says_why_in_one_line(settings: Settings) -> None:
    settings = settings.model_copy(update={"pipeline": MODULE})
    declared = declare("windows")
    await ensure_topics(settings, declared)
    await ensure_topics(settings, pipeline)
    steps: list[Step] = []
    with pytest.raises(TrainingError, match="0 training examples") as error:
        await run_job(
            settings, Job(MODULE, {f"{pipeline.topics.examples}-0": [0, 0]}), steps.append
        )
    assert "\n" not in str(error.value)
    assert [step.stage for step in steps] == ["read"]


async def test_a_run_ends_when_it_is_cancelled(settings: Settings) -> None:
    def children() -> set[int]:
        return {child.pid for child in psutil.Process().children(recursive=True)}

    async def started() -> bool:
        return bool(children() - before)

    before = children()
    job = Job(MODULE, {f"{pipeline.topics.examples}-0": [0, 0]})
    task = asyncio.create_task(run_job(settings, job))
    await until(started)
    mine = children() - before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not mine & children()


async def test_a_pipelines_own_onnx_file_is_published_as_it_is(
    settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(linear(4))
    declared = replace(declare("own-file"), model=Model(onnx=path))

    async def champion(version: int) -> bool:
        return (await read_state(settings, declared)).champion == version

    for _ in range(2):  # the second time it serves already
        async with trainer(settings, declared):
            await until(lambda: champion(1))
            await asyncio.sleep(0.5)
    path.write_bytes(linear(4, bias=1.0))
    async with trainer(settings, declared):
        await until(lambda: champion(2))
