"""The child's side of a training run: `python -m workers.training.child DIRECTORY [MEETING]`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import structlog

from streams.distributions import Reference
from streams.errors import (
    ConfigurationError,
    DriftloopError,
    ModelError,
    PipelineError,
    TrainingError,
)
from streams.kafka import workarounds
from streams.records import Manifest
from streams.settings import Settings, load_settings
from streams.spec import Pipeline
from streams.spec.tasks import Task
from streams.telemetry import configure_logging
from streams.versions import learned
from workers.environment import find_pipeline
from workers.evaluation.calibration import LEAST_BUCKETS
from workers.evaluation.case import Case, Contender
from workers.evaluation.gate import GateDecision, decide
from workers.evaluation.history import apart
from workers.evaluation.metrics import Scores
from workers.evaluation.opponent import evaluate, opponent, threshold
from workers.evaluation.reference import SliceColumns, fillers, reference_of
from workers.evaluation.values import constant, measured
from workers.examples.reading import Examples
from workers.processes.supervisor import end_with_parent
from workers.releases.manifests import blank
from workers.releases.repository import Repository, digest
from workers.training.fitting import Fitting, join
from workers.training.job import JOB, MODEL, OUTCOME, Job, JobOutcome, OnStep, Step
from workers.training.launched import LOST, RankLost, given_rank, given_ranks
from workers.training.slices import Sliced, Span, Spans, cut, largest, require_support, slices_at

if TYPE_CHECKING:
    from workers.training.candidate import Candidate

log = structlog.get_logger(__name__)

_LINGER = 1.0
"""Seconds in which whoever started the ranks sees the one that is lost end first."""
_NICE = 10
"""Serving comes before training where a machine is short of processors."""


def main() -> None:
    """Run the job of a directory; what went wrong is in its outcome, too."""
    end_with_parent()
    workarounds.apply()
    os.nice(_NICE)
    home, *meeting = sys.argv[1:]
    settings, report = load_settings(), _reporter()
    rank = {"rank": given_rank()} if given_ranks() > 1 else {}
    configure_logging(settings, role="training", **rank)
    try:
        sys.exit(_train(settings, Path(home), meeting[0] if meeting else None, report))
    except RankLost as error:
        log.error("a rank has lost another", error=str(error))
        time.sleep(_LINGER)
        sys.exit(LOST)


def _train(settings: Settings, home: Path, meeting: str | None, report: OnStep) -> int:
    """This rank's part of the job of a directory; the exit code. Raises `RankLost`."""
    ranks = join(meeting)
    job = msgspec.json.decode(ranks.broadcast((home / JOB).read_bytes()), type=Job)
    structlog.contextvars.bind_contextvars(pipeline=job.module)
    try:
        fitting = Fitting(settings, find_pipeline(job.module), job, home, ranks)
        if ranks.rank:
            fitting.assist()
            return 0
        outcome, data = run(fitting, report)
        (home / MODEL).write_bytes(data)
    except RankLost:
        raise
    except DriftloopError as error:
        kind = PipelineError if isinstance(error, ConfigurationError) else type(error)
        outcome = JobOutcome(error=kind.__name__, message=str(error))
    except Exception as error:  # the user's network, or our bug: the trainer goes on and says so
        log.error("the training run failed", exc_info=error)
        whose = f"rank {ranks.rank}: " if ranks.size > 1 else ""
        said = " ".join(f"{whose}{type(error).__name__}: {error}".split())[:500]
        outcome = JobOutcome(error=TrainingError.__name__, message=said)
    # whichever rank has it: on one machine the directory is the same, and the parent finds it
    new = home / f"{OUTCOME}-{ranks.rank}"
    new.write_bytes(msgspec.json.encode(outcome))
    new.replace(home / OUTCOME)
    return 1 if ranks.rank else 0


def run(fitting: Fitting, report: OnStep) -> tuple[JobOutcome, bytes]:
    """Read, train, evaluate and judge; the candidate's ONNX file is the second part.

    Raises:
        DriftloopError: there is no candidate; says why.
    """
    pipeline, job = fitting.pipeline, fitting.job
    with fitting.others_end():
        own, reading = fitting.read()
        assert reading is not None, "the first rank has them all"
        report(Step("read", examples=len(reading.examples)))
        watermark = reading.watermark if job.label_watermark is None else job.label_watermark
        spans = (
            Spans.from_manifest(job.slices)
            if job.slices
            else slices_at(pipeline.policies.retrain, watermark)
        )
        sliced = cut(reading.examples, spans)
        # before torch is imported, which takes seconds
        require_support(sliced, pipeline.policies.retrain, pipeline.predicts)
    candidate = fitting.candidate(own, reading.examples, spans, report)
    seen = cut(reading.examples.taken(learned(pipeline)), spans)
    scores = evaluate(candidate.onnx, seen.evaluate)
    judged = pipeline.predicts, scores, sliced.evaluate.label
    repository = Repository(fitting.settings.model_repository, pipeline.name)
    case = _case(pipeline, repository, job, sliced, (scores, candidate.threshold))
    slices = {one.name: one.mask(sliced.evaluate.vector) for one in pipeline.slices}
    decision = decide(pipeline.policies.gate, case, slices, candidate.seed)
    manifest = msgspec.structs.replace(
        _manifest(pipeline, candidate, spans),
        parent=job.champion,
        offsets=job.offsets,
        label_watermark=watermark,
        metrics=_metrics(pipeline.predicts, candidate, measured(*judged), decision),
        reference=_reference(pipeline.learned, candidate.onnx, seen, spans, candidate.seed),
        cause=job.cause,
    )
    made_for = f"; made for {job.cause}" if job.cause else ""
    return JobOutcome(manifest, decision.action, decision.reason + made_for), candidate.onnx


def _case(
    pipeline: Pipeline,
    repository: Repository,
    job: Job,
    sliced: Sliced,
    candidate: tuple[Scores, float],
) -> Case:
    """What the gate is told; the candidate as its scores and its threshold."""
    held, earlier = sliced.evaluate, job.history
    scores, chosen = candidate
    champion = opponent(pipeline, repository, job.champion, job.champion_manifest, held)
    anchor = champion
    if earlier.anchor != job.champion:
        anchor = opponent(pipeline, repository, earlier.anchor, earlier.anchor_manifest, held)
    task = pipeline.predicts
    chooses = pipeline.decision.threshold is None and task.thresholds
    positives = int(np.count_nonzero(largest(sliced.validate.label)))
    start = float(held.event_time[0])
    return Case(
        labels=held.label,
        candidate=Contender(0, scores, threshold(pipeline, chosen)),
        champion=champion,
        anchor=anchor,
        validation=min(positives, len(sliced.validate) - positives) if chooses else None,
        earlier=msgspec.structs.replace(earlier, run=tuple(apart(earlier.run, start))),
        entities=held.key if pipeline.policies.gate.resample == "entity" else None,
        task=task,
        constant=constant(pipeline.policies.gate.metric, sliced.train.label, task.quantiles)
        if task.numeric
        else None,
    )


def _reference(
    pipeline: Pipeline, onnx: bytes, sliced: Sliced, spans: Spans, seed: int
) -> Reference | None:
    """How features were distributed in training, and scores on what was held out of it.

    None where the model fails on some of these examples, and so has not scored all of them, and
    where a ranking has no feature but those of candidates.
    """

    def seen(examples: Examples, span: Span) -> SliceColumns:
        scores = evaluate(onnx, examples)
        if pipeline.predicts.ranks:  # a candidate's is nothing without those of the others
            scores = scores[:, :0]
        return SliceColumns(span, examples.event_time, examples.vector, scores, examples.key)

    if pipeline.predicts.ranks and not pipeline.feature_names:
        return None
    held_out = sliced.validate.followed_by(sliced.evaluate)
    try:
        trained = seen(sliced.train, spans.train)
        later = seen(held_out, (spans.validate[0], spans.evaluate[1]))
    except ModelError as error:
        log.warning("no reference to tell a drift by", error=str(error))
        return None
    span = pipeline.policies.evaluate.every_seconds
    names = list(pipeline.feature_names)
    reference = reference_of(names, trained, later, span, fillers(pipeline), seed)
    if not reference.levels:
        log.warning(
            "too little to tell a drift by: make policies.retrain.window longer, or "
            "policies.evaluate.every shorter",
            whole_buckets=reference.buckets,
            needed=LEAST_BUCKETS,
        )
    return reference


def _manifest(pipeline: Pipeline, candidate: Candidate, slices: Spans) -> Manifest:
    return msgspec.structs.replace(
        blank(pipeline),
        slices=slices.as_manifest(),
        counts=candidate.counts,
        seed=candidate.seed,
        parameters=candidate.parameters,
        environment=candidate.environment,
        normalisation=candidate.normalisation,
        threshold=candidate.threshold,
        model_sha256=digest(candidate.onnx),
    )


def _metrics(
    task: Task, candidate: Candidate, found: dict[str, float], decision: GateDecision
) -> dict[str, float]:
    """Metrics on the evaluation slice, and those of training itself.

    Errors have a unit, so that of a value digits count and not decimals.
    """
    found = {**found, **decision.as_metrics(), **candidate.metrics}
    return {
        name: float(f"{value:.9g}") if task.numeric else round(value, 6)
        for name, value in found.items()
    }


def _reporter() -> OnStep:
    """Writes steps to standard output, and sends all else that is printed to standard error."""
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def report(step: Step) -> None:
        lines.write(msgspec.json.encode(step) + b"\n")

    return report


if __name__ == "__main__":
    main()
