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
import structlog
from msgspec.structs import replace

from streams.errors import PipelineError, TrainingError
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from streams.spec import Retrain
from tests.synthetic import made, write_examples
from tests.waiting import until
from workers.environment import environment, find_pipeline
from workers.examples.index import ExampleFollower
from workers.training.job import Job, Step, run_job, unfinished
from workers.training.slices import slices_at

PIPELINE = """
    import os
    from dataclasses import replace
    from streams.spec import Model
    from tests.synthetic import declare, network
    declared = declare("ranks", margin=0.5, confidence=0.999, calibration=10.0)
    parameters = {"epochs": 12, "batch_size": 128, "patience": 12}

    def fails(features):
        if os.environ.get("RANK") == "1":
            raise ValueError("rank 1 fails")
        return network(features)

    pipeline = replace(declared, model=Model(network=network, parameters=parameters))
"""
FEW = Retrain(every="1h", window="50h", validate="1d", evaluate="1d")
"""Two hours to learn from."""


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
async def test_one_that_is_cut_off_ends_as_one_that_is_not(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 is killed after the fourth epoch, and the trainer is stopped after the eighth."""
    job = await job_of(settings, tmp_path, monkeypatch)
    whole = await run_job(settings, job)
    assert whole.manifest.environment["processes"] == "2"
    assert whole.manifest.environment["backend"] in {"gloo", "nccl"}
    home, epochs, stop = tmp_path / "training" / "ranks", list[int](), asyncio.Event()
    hasty = replace(job, checkpoint_seconds=0.0)

    def disturb(step: Step) -> None:
        if step.epoch == 4 and 4 not in epochs:
            os.kill(ranks()[1], signal.SIGKILL)
        if step.epoch == 8:
            stop.set()
        epochs.append(step.epoch)

    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(run_job(settings, hasty, disturb, None, home))
        await stop.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    said = [line["error"] for line in lines if line["event"].startswith("a training run was cut")]
    assert said == ["rank 1 of 2 ended (SIGKILL, out of memory?) - the trainer's log says more"]
    assert [epoch for epoch in epochs if epoch].count(2) == 1
    assert ranks() == {}
    assert job.label_watermark is not None
    assert unfinished(home, 0.0) == hasty
    assert unfinished(home, job.label_watermark) is None
    epochs.clear()
    again = await run_job(settings, hasty, lambda step: epochs.append(step.epoch), None, home)
    assert again.manifest.model_sha256 == whole.manifest.model_sha256
    assert min(epoch for epoch in epochs if epoch) > 7
    assert not home.exists()
    alone = await run_job(settings, replace(job, processes=1))
    assert alone.manifest.counts == whole.manifest.counts
    assert alone.manifest.normalisation == whole.manifest.normalisation
    there, here = (one.manifest.metrics["average_precision"] for one in (whole, alone))
    print(f"average precision: two ranks {there:.4f}, one {here:.4f}")
    assert abs(there - here) < 0.03
    assert whole.manifest.model_sha256 != alone.manifest.model_sha256


async def test_what_is_wrong_is_one_line(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    job = await job_of(settings, tmp_path, monkeypatch)
    assert job.label_watermark is not None
    capfd.readouterr()
    short = replace(job, slices=slices_at(FEW, job.label_watermark).as_manifest())
    with pytest.raises(TrainingError, match=r"policies\.retrain\.least_examples is 200"):
        await run_job(settings, short)
    assert capfd.readouterr().err == ""
    failing = PIPELINE.replace("network=network", "network=fails")
    (tmp_path / "ranked.py").write_text(dedent(failing))
    with pytest.raises(PipelineError, match="rank 1 fails"):
        await run_job(settings, job)


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
