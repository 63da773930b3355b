"""What `Model(fit=...)` declares, tried on sample events with made-up labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.spec import Pipeline
from workers.releases.onnx_files import run, session
from workers.training.candidate import label_numbers
from workers.training.estimators.graphs import corrected
from workers.training.estimators.learning import fitted, training_of

_LEAST = 200
"""LabelledRows of each slice: fewer samples are repeated."""


def try_fit(pipeline: Pipeline, vectors: NDArray[np.float32]) -> None:
    """Fit on vectors [n, features] as training does, and run what is served.

    Raises:
        DriftloopError: it cannot be trained or served; says why.
    """
    classes = pipeline.predicts.classes
    many = np.tile(vectors, (-(-max(_LEAST, 20 * classes) // len(vectors)), 1))
    random = np.random.default_rng(int(pipeline.training["seed"]))
    labels = random.permutation(np.arange(len(many)) % (classes or _LEAST)).astype(np.float32)
    weights = np.array(label_numbers(pipeline, labels) if classes else [1.0])
    learned = fitted(pipeline, training_of(pipeline, ((many, labels), (many, labels)), weights))
    run(session(corrected(learned.onnx, weights)), many)
