"""Scores of candidate and champion on the same later slice, and metrics of them."""

from __future__ import annotations

import numpy as np
import structlog

from streams.errors import ModelError
from streams.records import Manifest
from streams.spec import Pipeline
from workers.bootstrap import Labels, Scores, point
from workers.examples import Examples
from workers.gate import Opponent
from workers.onnx_files import check_signature, run, session
from workers.repository import Repository

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
            raise ModelError("it learnt from other features")
        data = repository.model(champion, said.model_sha256)
        check_signature(data, len(pipeline.feature_names), pipeline.model.outputs)
        return Opponent(champion, evaluate(data, examples))
    except ModelError as error:
        log.warning("champion cannot be evaluated", version=champion, error=str(error))
        return Opponent(champion, None, str(error))


def measures(scores: Scores, labels: Labels) -> dict[str, float]:
    """Metrics of scores [n, outputs]; those that are not defined are left out.

    Brier's score is the mean squared error of the probability; calibration error is the mean
    difference of score and frequency over ten bins of equal size (ECE, Naeini et al., 2015).
    """
    found = {"accuracy": point("accuracy", scores, labels)}
    for name in ("average_precision", "roc_auc"):
        found[name] = point(name, scores, labels)
    if scores.shape[1] == 1 and len(labels):
        found["brier"] = float(np.mean((scores[:, 0] - labels) ** 2))
        found["calibration_error"] = calibration_error(scores, labels)
    return {name: round(value, 6) for name, value in found.items() if np.isfinite(value)}


def calibration_error(scores: Scores, labels: Labels, bins: int = 10) -> float:
    """Mean |mean score - frequency of positives| over bins of equal size, by falling score."""
    order = np.argsort(scores[:, 0], kind="stable")
    gaps = [
        abs(float(scores[rows, 0].mean()) - float(labels[rows].mean())) * len(rows)
        for rows in np.array_split(order, bins)
        if len(rows)
    ]
    return sum(gaps) / len(labels)
