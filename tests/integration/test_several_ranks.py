"""Candidates that several processes train: the same file each time, also after one was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
from msgspec.structs import replace

from streams.errors import TrainingError
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from tests.synthetic import made, write_examples
from tests.waiting import until
from workers.environment import environment, find_pipeline
from workers.examples.index import ExampleFollower
from workers.training.job import Job, Step, run_job, unfinished
from workers.training.slices import slices_at

PIPELINE = """
    from dataclasses import replace
    from streams.spec import Model
    from tests.synthetic import declare, network
    declared = declare("ranks", margin=0.5, confidence=0.999, calibration=10.0)
    pipeline = replace(
        declared,
        model=Model(network=network, parameters={"epochs": 12, "batch_size": 128, "patience": 12}),
    )
"""


async def job_of(settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job on examples in four partitions; it may be run by a module of its own."""
    (folder / "ranked.py").write_text(dedent(PIPELINE))
    monkeypatch.syspath_prepend(folder)
    pipeline = find_pipeline("ranked")
    await ensure_topics(settings, pipeline)
    tail = ExampleFollower(settings, pipeline)
    await tail.start()
    try:
        while not await tail.caught_up():
            await tail.poll(0.2)
        if not len(tail.index):
            await write_examples(settings, pipeline.topics.examples, made(6.5, per_day=1500))
            await until(lambda: _all(tail), "all examples are there")
        watermark = tail.index.watermark(await tail.expected(), idle=1e9)
    finally:
        await tail.stop()
    slices = slices_at(pipeline.policies.retrain, watermark)
    window = tail.index.window(slices.train[0], slices.evaluate[1])
    offsets = window.offsets(pipeline.topics.examples)
    return Job("ranked", offsets, watermark, slices.as_manifest(), processes=2)


async def _all(tail: ExampleFollower) -> bool:
    await tail.poll(0.2)
    return len(tail.index) > 0 and await tail.caught_up()


def ranks() -> dict[int, int]:
    """Process ids of the ranks that this process has started, by rank."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        try:
            if "workers.training.child" in child.cmdline():
                found[int(child.environ()["RANK"])] = child.pid
        except (psutil.Error, KeyError):  # it has just ended, or has not begun
            continue
    return found


@pytest.mark.timeout(240)
async def test_one_that_was_cut_off_ends_as_one_that_was_not(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await job_of(settings, tmp_path, monkeypatch)
    whole = await run_job(settings, job)
    assert whole.manifest.environment["processes"] == "2"
    home, killed = tmp_path / "training" / "ranks", list[int]()
    hasty = replace(job, checkpoint_seconds=0.0)

    def kill(step: Step) -> None:
        if step.epoch == 4 and not killed:
            killed.append(ranks()[1])
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"rank 1 of 2 ended \(SIGKILL"):
        await run_job(settings, hasty, kill, None, home)
    assert killed
    seen = list[int]()
    again = await run_job(settings, hasty, lambda step: seen.append(step.epoch), None, home)
    assert again.manifest.model_sha256 == whole.manifest.model_sha256
    assert min(epoch for epoch in seen if epoch) > 3
    assert not home.exists()
    alone = await run_job(settings, replace(job, processes=1))
    assert alone.manifest.counts == whole.manifest.counts
    assert alone.manifest.normalisation == whole.manifest.normalisation
    there, here = (one.manifest.metrics["average_precision"] for one in (whole, alone))
    print(f"average precision: two ranks {there:.4f}, one {here:.4f}")
    assert abs(there - here) < 0.03
    assert whole.manifest.model_sha256 != alone.manifest.model_sha256


async def test_a_run_that_is_cut_off_is_known_until_it_is_decided(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await job_of(settings, tmp_path, monkeypatch)
    home = tmp_path / "training" / "ranks"
    begun = asyncio.Event()
    task = asyncio.create_task(run_job(settings, job, lambda _: begun.set(), None, home))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ranks() == {}
    assert job.label_watermark is not None
    assert unfinished(home, 0.0) == job
    assert unfinished(home, job.label_watermark) is None


@pytest.mark.timeout(240)
async def test_torchrun_on_the_command(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torchrun -m workers.cli train`: what several machines run, here on one."""
    await job_of(settings, tmp_path, monkeypatch)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(*torchrun, "-m", "workers.cli", "train", "ranked", "--no-publish"),
        env={**os.environ, **environment(settings), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert said.decode().count("gate: ") == 1
