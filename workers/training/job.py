"""One training run in a process of its own: examples in, a judged candidate out.

The parent stays responsive and small, the run's memory is given back, and it can be stopped. A run
gets a directory with `job.json`; it leaves `model.onnx` and `outcome.json` there, and reports its
progress as JSON lines on standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from streams.errors import DriftloopError, ModelError, PipelineError, TrainingError, Unavailable
from streams.ledger.state import LedgerState
from streams.records import Action, Manifest
from streams.settings import Settings
from streams.spec import Pipeline
from streams.versions import earlier_rows
from workers.devstack.servers import ended
from workers.environment import environment
from workers.evaluation.history import History, history
from workers.processes.supervisor import PARENT
from workers.releases.candidate import Judged
from workers.training.accounting import RunMeter
from workers.training.launched import LOST, given_rank, given_ranks

log = structlog.get_logger(__name__)

JOB, OUTCOME, MODEL = "job.json", "outcome.json", "model.onnx"
CUT_OFF = "cut-off"
"""A file that says how a run ended that has no outcome."""
_TERMINATE_SECONDS = 5.0
_TAKEN_UP = 2
"""How often a run that was cut off is taken up again, before there is no candidate."""


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
    rows: tuple[Manifest, ...] = ()
    """What rows held that were logged before the pipeline changed, and can be read as its own."""
    threads: int = 1
    """Of each process."""
    processes: int = 1
    checkpoint_seconds: float = 10.0
    """Time between two checkpoints."""


def against(job: Job, pipeline: Pipeline, now: LedgerState) -> Job:
    """The job with what the ledger says: its champion, its anchor and its earlier candidates."""
    return msgspec.structs.replace(
        job,
        champion=now.champion,
        champion_manifest=now.manifest,
        history=history(now, pipeline.policies.gate.metric, pipeline),
        rows=earlier_rows(pipeline, now.versions.values()),
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


class RunCutOff(TrainingError):
    """A run ended without an outcome, as when a process is killed; it goes on where it is kept."""


OnStep = Callable[[Step], None]
_ERRORS = {kind.__name__: kind for kind in (TrainingError, ModelError, PipelineError, Unavailable)}


async def run_job(
    settings: Settings,
    job: Job,
    report: OnStep = lambda step: None,
    meter: RunMeter | None = None,
    home: Path | None = None,
) -> Judged:
    """Run a job in a child process; cancelling ends it. A meter is told what it uses.

    With a directory for it (`home`), a run that was cut off there goes on at its checkpoint: twice
    by itself, and where it is run again.

    Raises:
        RunCutOff: a process of the run was killed, or crashed.
        TrainingError: there is no candidate; says why.
        ModelError: the network cannot be exported.
        PipelineError: the network cannot be built.
        Unavailable: Kafka is away.
    """
    if home is not None:
        return await _run_kept(home, settings, job, report, meter)
    with tempfile.TemporaryDirectory(prefix="driftloop-train-") as name:
        return await _run_in(Path(name), settings, job, report, meter)


async def help_run(settings: Settings, module: str) -> None:
    """The part of a process that torchrun has started and that is not the first.

    Raises:
        DriftloopError: it ended badly; says why, or that its log says more.
    """
    with tempfile.TemporaryDirectory(prefix="driftloop-train-") as name:
        job = Job(module, {})  # the first tells which
        (Path(name) / JOB).write_bytes(msgspec.json.encode(job))
        code = await _run_child(settings, Path(name), _program(job), lambda step: None, None)
        if (Path(name) / OUTCOME).exists():
            raise _raised(_outcome(Path(name)))
    if code:
        raise TrainingError(f"rank {given_rank()} {how_ended(code)} - its log says more")


def unfinished(home: Path, decided: float) -> Job | None:
    """The job that was cut off in this directory, unless its time has been decided since."""
    try:
        found = msgspec.json.decode((home / JOB).read_bytes(), type=Job)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        log.warning("a run that was cut off cannot be read", at=str(home / JOB), error=str(error))
        return None
    return found if found.slices and (found.label_watermark or 0.0) > decided else None


async def _run_kept(
    home: Path, settings: Settings, job: Job, report: OnStep, meter: RunMeter | None
) -> Judged:
    """In a directory that stays until there is an outcome; what is cut off is taken up again."""
    await asyncio.to_thread(home.mkdir, parents=True, exist_ok=True)
    try:
        for _ in range(_TAKEN_UP):
            try:
                return await _run_in(home, settings, job, report, meter)
            except RunCutOff as error:
                log.warning("a training run was cut off and is taken up again", error=str(error))
        return await _run_in(home, settings, job, report, meter)
    finally:
        if (home / OUTCOME).exists():
            shutil.rmtree(home)


async def _run_in(
    home: Path, settings: Settings, job: Job, report: OnStep, meter: RunMeter | None
) -> Judged:
    for name in (OUTCOME, CUT_OFF):
        (home / name).unlink(missing_ok=True)
    (home / JOB).write_bytes(msgspec.json.encode(job))
    code = await _run_child(settings, home, _program(job), report, meter)
    if not (home / OUTCOME).exists():
        said = f"the training process {how_ended(code)} - its log says more"
        raise RunCutOff((home / CUT_OFF).read_text() if (home / CUT_OFF).exists() else said)
    outcome = _outcome(home)
    if outcome.manifest is None:
        raise _raised(outcome)
    data = (home / MODEL).read_bytes()
    return Judged(outcome.manifest, data, outcome.action, outcome.reason)


def how_ended(code: int) -> str:
    """How a rank ended, in words: by its exit code, or the signal that killed it."""
    return "has lost another, which hangs" if code == LOST else f"ended ({ended(code)})"


def _program(job: Job) -> list[str]:
    """What runs a job; several processes are started by torchrun, or have been."""
    if given_ranks() > 1:
        return ["workers.training.child"]
    processes = min(job.processes, max(1, len(job.offsets)))
    if processes < job.processes:
        log.warning(
            "fewer processes train than asked for: each reads partitions of its own",
            asked=job.processes,
            partitions=len(job.offsets),
        )
    if processes == 1:
        return ["workers.training.child"]
    return ["workers.training.launch", str(processes)]


async def _run_child(
    settings: Settings, home: Path, program: list[str], report: OnStep, meter: RunMeter | None
) -> int:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        program[0],
        str(home),
        *program[1:],
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


def _outcome(home: Path) -> JobOutcome:
    return msgspec.json.decode((home / OUTCOME).read_bytes(), type=JobOutcome)


def _raised(outcome: JobOutcome) -> DriftloopError:
    """The child's error, as it was raised there."""
    kind = _ERRORS.get(outcome.error, TrainingError)
    # their constructors make the message; here it is made already
    return kind.__new__(kind, outcome.message)
