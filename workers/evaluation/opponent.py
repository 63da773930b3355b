"""Scores of candidate and champion on the same later slice."""

from __future__ import annotations

import structlog

from streams.errors import ModelError
from streams.records import Manifest
from streams.spec import Pipeline
from workers.evaluation.gate import Opponent
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
    return run(session(data), examples.vector)


def opponent(
    pipeline: Pipeline,
    repository: Repository,
    champion: int,
    manifest: Manifest | None,
    examples: Examples,
) -> Opponent:
    """The champion's scores of the same examples, or why it has none.

    `manifest` is the ledger's: the file on disk must still be the one that was promoted.
    """
    if champion == 0:
        return Opponent()
    try:
        said = manifest or repository.manifest(champion)
        if said.schema_hash != pipeline.schema_hash:
            raise ModelError("it was trained on other features")
        data = repository.model(champion, said.model_sha256)
        check_signature(data, len(pipeline.feature_names), pipeline.model.outputs)
        return Opponent(champion, evaluate(data, examples))
    except ModelError as error:
        log.warning("champion cannot be evaluated", version=champion, error=str(error))
        return Opponent(champion, None, str(error))
