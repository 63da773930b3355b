"""Scores of candidate, champion and anchor on the same later slice."""

from __future__ import annotations

import numpy as np
import structlog

from streams.errors import ModelError
from streams.records import Manifest
from streams.spec import Pipeline
from streams.versions import pick
from workers.evaluation.case import Contender
from workers.evaluation.metrics import Scores
from workers.examples.reading import Examples
from workers.releases.onnx_files import check_signature, run, session
from workers.releases.repository import Repository

log = structlog.get_logger(__name__)


def evaluate(data: bytes, examples: Examples) -> Scores:
    """Scores [n, outputs] of an ONNX file, as served.

    Raises:
        ModelError: it does not load, or fails on the examples.
    """
    return run(session(data), examples.rows)


def opponent(
    pipeline: Pipeline,
    repository: Repository,
    version: int,
    manifest: Manifest | None,
    examples: Examples,
) -> Contender:
    """Another version's scores of the same examples, those that it served, or why it has none.

    `manifest` is the ledger's: the file on disk must still be the one that was promoted.
    """
    if version == 0:
        return Contender()
    try:
        said = manifest or repository.manifest(version)
        taken = pick(pipeline, said)
        data = repository.model(version, said.model_sha256)
        check_signature(data, taken.layout, pipeline.model.outputs)
        at = threshold(pipeline, said.threshold)
        return Contender(version, evaluate(data, examples.taken(taken)), at)
    except ModelError as error:
        log.warning("a version cannot be evaluated", version=version, error=str(error))
        at = threshold(pipeline, manifest.threshold if manifest else 0.5)
        return _as_served(version, at, str(error), examples)


def threshold(pipeline: Pipeline, chosen: float) -> float:
    """What a version decides by: the pipeline's threshold, or else the version's own."""
    declared = pipeline.decision.threshold
    return chosen if declared is None else declared


def _as_served(version: int, at: float, problem: str, examples: Examples) -> Contender:
    """A version by the scores that it served, where it served any."""
    served = (examples.version == version) & np.isfinite(examples.score).all(axis=1)
    scores = examples.score if served.any() else None
    return Contender(version, scores, at, served, problem)
