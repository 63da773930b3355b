"""One training run in a process of its own: examples in, a judged candidate out.

The parent stays responsive and small, the run's memory is given back, and it can be stopped. A run
gets a directory with `job.json`; it leaves `model.onnx` and `outcome.json` there, and reports its
progress as JSON lines on standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from streams.errors import DriftloopError, ModelError, PipelineError, TrainingError, Unavailable
from streams.ledger.state import LedgerState
from streams.records import Action, Manifest
from streams.settings import Settings
from streams.spec import Pipeline
from workers.devstack.servers import ended
from workers.environment import environment
from workers.evaluation.history import History, history
from workers.processes.supervisor import PARENT
from workers.releases.candidate import Judged
from workers.training.accounting import RunMeter

JOB, OUTCOME, MODEL = "job.json", "outcome.json", "model.onnx"
_TERMINATE_SECONDS = 5.0


class Job(msgspec.Struct, frozen=True):
    """Which examples to train on, and which champion to compare with."""

    module: str
    """The pipeline's module."""
    offsets: dict[str, list[int]]
    """`<topic>-<partition>` -> [first, next)."""
    label_watermark: float | None = None
    """None: the least of the partitions' largest event times."""
    slices: dict[str, list[float]] | None = None
    """None: the retrain policy's, up to the label watermark."""
    champion: int = 0
    """Version to compare with; 0 for none."""
    champion_manifest: Manifest | None = None
    cause: str = ""
    """The drift that the candidate is made for."""
    history: History = History()
    """What the ledger says of earlier candidates."""
    threads: int = 1


def against(job: Job, pipeline: Pipeline, now: LedgerState) -> Job:
    """The job with what the ledger says: its champion, its anchor and its earlier candidates."""
    return msgspec.structs.replace(
        job,
        champion=now.champion,
        champion_manifest=now.manifest,
        history=history(now, pipeline.policies.gate.metric, pipeline.schema_hash),
    )


class Step(msgspec.Struct, frozen=True):
    """A line of progress."""

    stage: str
    """`read`, `start`, `train` or `judge`."""
    examples: int = 0
    epoch: int = 0
    epochs: int = 0
    loss: float = 0.0
    metric: float = 0.0
    """On the validation slice."""
    seconds: float = 0.0
    gpus: int = 0
    """That the run holds."""


class JobOutcome(msgspec.Struct, frozen=True):
    """A candidate and what the gate said of it; or why there is none."""

    manifest: Manifest | None = None
    """Of version 0: the publisher gives it its number."""
    action: Action = Action.INCONCLUSIVE
    reason: str = ""
    error: str = ""
    """Class of the error that ended the run."""
    message: str = ""


OnStep = Callable[[Step], None]
_ERRORS = {kind.__name__: kind for kind in (TrainingError, ModelError, PipelineError, Unavailable)}


async def run_job(
    settings: Settings,
    job: Job,
    report: OnStep = lambda step: None,
    meter: RunMeter | None = None,
) -> Judged:
    """Run a job in a child process; cancelling ends it. A meter is told what it uses.

    Raises:
        TrainingError: there is no candidate; says why.
        ModelError: the network cannot be exported.
        PipelineError: the network cannot be built.
        Unavailable: Kafka is away.
    """
    with tempfile.TemporaryDirectory(prefix="driftloop-train-") as name:
        home = Path(name)
        (home / JOB).write_bytes(msgspec.json.encode(job))
        code = await _run_child(settings, home, report, meter)
        if not (home / OUTCOME).exists():
            raise TrainingError(f"the training process ended ({ended(code)}) - its log says more")
        outcome = msgspec.json.decode((home / OUTCOME).read_bytes(), type=JobOutcome)
        if outcome.manifest is None:
            raise _raised(outcome)
        data = (home / MODEL).read_bytes()
    return Judged(outcome.manifest, data, outcome.action, outcome.reason)


async def _run_child(settings: Settings, home: Path, report: OnStep, meter: RunMeter | None) -> int:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "workers.training.child",
        str(home),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the parent, which ends the child
        env={
            **os.environ,
            **environment(settings),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            PARENT: str(os.getpid()),
        },
    )
    assert child.stdout is not None
    async with meter.child(child.pid) if meter else contextlib.nullcontext():
        try:
            async for line in child.stdout:
                step = msgspec.json.decode(line, type=Step)
                if meter:
                    meter.gpus = step.gpus
                report(step)
            return await child.wait()
        finally:
            await _end(child)


async def _end(child: asyncio.subprocess.Process) -> None:
    """Make sure that the child is gone."""
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(_TERMINATE_SECONDS):
            await child.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _raised(outcome: JobOutcome) -> DriftloopError:
    """The child's error, as it was raised there."""
    kind = _ERRORS.get(outcome.error, TrainingError)
    # their constructors make the message; here it is made already
    return kind.__new__(kind, outcome.message)
