"""`train`: one candidate now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streams.errors import ConfigurationError, TrainingError
from streams.kafka.topics import ensure_topics
from streams.records import Action
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.durations import seconds
from streams.versions import Logged, earlier_rows
from workers.environment import connected_settings, find_pipeline
from workers.terminal import Module, console, out, plain

if TYPE_CHECKING:
    from streams.ledger.state import LedgerState
    from streams.records import LedgerEntry
    from workers.releases.candidate import Judged
    from workers.training.accounting import RunMeter
    from workers.training.job import Job, OnStep, Step

_NOT_PROMOTED = 4
"""Exit code where there is a candidate that may not serve."""


def train(
    module: Module,
    last: Annotated[
        str | None,
        typer.Option(help="Event time to learn from, as 14d; the pipeline's window if absent."),
    ] = None,
    offsets: Annotated[
        str | None,
        typer.Option(help="Exact offsets instead: P.examples-0:100-2000,P.examples-1:90-1800."),
    ] = None,
    from_version: Annotated[
        int | None,
        typer.Option(min=1, help="Train again from a version's manifest and compare the files."),
    ] = None,
    publish: Annotated[
        bool, typer.Option(help="Publish the candidate if the gate lets it.")
    ] = True,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Train a candidate now, judge it against the champion, and publish it if the gate lets it.

    Under `torchrun -m workers.cli train MODULE`, which all machines run, they train it together.

    Exit code 4: there is a candidate, and the gate does not let it serve.
    """
    if sum(choice is not None for choice in (last, offsets, from_version)) > 1:
        raise ConfigurationError("give one of --last, --offsets and --from-version")
    from workers.training.job import help_run
    from workers.training.launched import given_rank, given_ranks

    pipeline, settings = find_pipeline(module), connected_settings(module)
    asyncio.run(ensure_topics(settings, pipeline))  # before the first event there are none
    if pipeline.model.onnx is not None:
        _publish_file(settings, pipeline, publish)
        return
    if last is not None and seconds(last, "--last") == 0:
        raise ConfigurationError("--last 0 leaves nothing to learn from - give 14d")
    if pipeline.model.fit is not None and given_ranks() > 1:
        raise ConfigurationError("model.fit is fitted by one process - train without torchrun")
    if given_rank():
        asyncio.run(help_run(settings, settings.pipeline))
        return
    if from_version is not None:
        asyncio.run(_repeat(settings, pipeline, from_version))
        return
    asyncio.run(_train(settings, pipeline, (last, offsets, publish, threads)))


def train_recent(settings: Settings, pipeline: Pipeline) -> None:
    """A first version from the most recent examples, as `driftloop train` makes one."""
    if pipeline.model.onnx is not None:
        _publish_file(settings, pipeline, publish=True)
        return
    asyncio.run(_train(settings, pipeline, (None, None, True, 1)))


async def _train(
    settings: Settings, pipeline: Pipeline, options: tuple[str | None, str | None, bool, int]
) -> None:
    import msgspec

    from streams.ledger.topic import read_state
    from workers.examples.reading import parse_ranges
    from workers.training.accounting import FAILED, RunMeter
    from workers.training.job import Job, against

    last, offsets, publish, threads = options
    topic = pipeline.topics.examples
    now = await read_state(settings, pipeline)
    if offsets is not None:
        job = Job(settings.pipeline, parse_ranges(topic, offsets).offsets(topic))
    else:
        job = await _recent(settings, pipeline, last, now)
    processes = pipeline.policies.retrain.processes
    job = against(job, pipeline, now)
    job = msgspec.structs.replace(job, threads=threads, processes=processes)
    meter, outcome, version = RunMeter(settings, pipeline), FAILED, 0
    try:
        judged = await _run(settings, job, meter)
        outcome = judged.action.value
        out.print(f"gate: [bold]{judged.action}[/]: {plain(judged.reason)}")
        if publish:
            decided, kept = await _release(settings, pipeline, judged)
            outcome, version = decided.action.value, decided.version
    finally:
        await meter.end(outcome, version)
    if not publish:
        out.print("nothing published (--no-publish)")
        if judged.action is not Action.PROMOTE:
            raise typer.Exit(_NOT_PROMOTED)
        return
    _say(settings.pipeline, decided, kept)


async def _release(
    settings: Settings, pipeline: Pipeline, judged: Judged
) -> tuple[LedgerEntry, bool]:
    """What was done about a candidate, and whether its files are kept."""
    from workers.releases.lifecycle import Lifecycle

    life = Lifecycle(settings, pipeline)
    try:
        decided = await life.release(judged)
        return decided, decided.version in life.publisher.repository.versions()
    finally:
        await life.close()


async def _recent(
    settings: Settings, pipeline: Pipeline, last: str | None, now: LedgerState
) -> Job:
    """The job on the most recent examples: the retrain policy's window, or another length."""
    from workers.examples.index import ExampleFollower
    from workers.training.job import Job
    from workers.training.slices import slices_at

    policy = pipeline.policies.retrain
    tail = ExampleFollower(settings, pipeline)
    tail.logged = Logged(pipeline, now.versions.values())
    with console.status(f"reading {pipeline.topics.examples}"):
        try:
            await tail.start()
            while not await tail.caught_up():
                await tail.poll(0.2)
            watermark = tail.index.watermark(await tail.expected(), idle=policy.window_seconds)
        finally:
            await tail.stop()
    if not len(tail.index):
        raise TrainingError(
            f"{pipeline.topics.examples} is empty - examples come when labels have matured "
            f"({pipeline.feedback.horizon} of event time)"
        )
    slices = slices_at(policy, watermark)
    if last is not None:
        start = watermark - seconds(last, "--last")
        if start >= slices.train[1]:
            raise ConfigurationError(
                f"--last {last} leaves nothing to train on - give more than validate + evaluate "
                f"({policy.validate} + {policy.evaluate})"
            )
        slices = type(slices)((start, slices.train[1]), slices.validate, slices.evaluate)
    window = tail.index.window(slices.train[0], slices.evaluate[1])
    offsets = window.offsets(pipeline.topics.examples)
    return Job(settings.pipeline, offsets, watermark, slices.as_manifest())


async def _repeat(settings: Settings, pipeline: Pipeline, version: int) -> None:
    """Train again from a manifest, and say whether the same file came out."""
    from streams.ledger.topic import read_state
    from workers.releases.repository import Repository
    from workers.training.accounting import REPEATED, RunMeter
    from workers.training.job import Job

    now = await read_state(settings, pipeline)
    manifest = now.versions.get(version)
    if manifest is None:
        manifest = Repository(settings.model_repository, pipeline.name).manifest(version)
    if not manifest.offsets:
        raise ConfigurationError(f"version {version} was not trained here: it has no offsets")
    job = Job(
        module=settings.pipeline,
        offsets=manifest.offsets,
        label_watermark=manifest.label_watermark,
        slices=manifest.slices,
        champion=manifest.parent,
        champion_manifest=now.versions.get(manifest.parent),
        threads=int(manifest.environment.get("threads", "1")),
        processes=int(manifest.environment.get("processes", "1")),
        rows=earlier_rows(pipeline, now.versions.values()),
    )
    meter = RunMeter(settings, pipeline)
    try:
        judged = await _run(settings, job, meter)
    finally:
        await meter.end(REPEATED)
    again = judged.manifest
    if again.model_sha256 == manifest.model_sha256:
        out.print(
            f"[green]the same file[/]: version {version} is reproduced byte for byte "
            f"(SHA-256 {again.model_sha256[:16]}...)"
        )
        return
    then = {"code": manifest.code, "schema": manifest.schema_hash, **manifest.environment}
    today = {"code": again.code, "schema": again.schema_hash, **again.environment}
    changed = [f"{k}: {then.get(k)} -> {today[k]}" for k in today if then.get(k) != today[k]]
    raise TrainingError(
        f"version {version} came out differently: "
        + ("; ".join(changed) or "nothing known has changed but the machine")
    )


async def _run(settings: Settings, job: Job, meter: RunMeter) -> Judged:
    """Run a job with a progress bar."""
    from workers.training.job import run_job

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        return await run_job(settings, job, _reporter(bar), meter)


def _reporter(bar: Progress) -> OnStep:
    task = bar.add_task("reading examples", total=None)

    def report(step: Step) -> None:
        if step.stage == "read":
            bar.update(task, description=f"{step.examples} examples; training")
        elif step.stage == "train":
            said = f"epoch {step.epoch}: loss {step.loss:.4f}, validation {step.metric:.4f}"
            bar.update(task, description=said, total=step.epochs, completed=step.epoch)
            if not bar.console.is_terminal:
                console.print(said)
        elif step.stage == "judge":
            bar.update(task, description="judging", total=None)

    return report


def _publish_file(settings: Settings, pipeline: Pipeline, publish: bool) -> None:
    from workers.releases.lifecycle import Lifecycle

    path = pipeline.model.onnx
    if not publish:
        out.print(f"{pipeline.name} brings its own ONNX file ({path}): there is nothing to train")
        return

    async def work() -> LedgerEntry | None:
        life = Lifecycle(settings, pipeline)
        try:
            return await life.publish_file()
        finally:
            await life.close()

    decided = asyncio.run(work())
    if decided is None:
        out.print(
            f"{path} was published before; it is not retrained, and `driftloop models list "
            f"{settings.pipeline}` says whether it serves"
        )
    else:
        _say(settings.pipeline, decided)


def _say(module: str, decided: LedgerEntry, kept: bool = False) -> None:
    """Say what was decided; a version that does not serve ends the command with its exit code."""
    if decided.action is Action.PROMOTE:
        out.print(
            f"[green]version {decided.version} serves[/] - see it with "
            f"`driftloop models show {decided.version} {module}`"
        )
        return
    out.print(
        f"[yellow]version {decided.version} does not serve[/] ({decided.action}): "
        f"{plain(decided.reason)}"
    )
    if kept:
        out.print(
            f"to promote it anyway: `driftloop promote {decided.version} {module} --force "
            "--reason '...'`"
        )
    raise typer.Exit(_NOT_PROMOTED)
