"""A pipeline's network, tried without training: built, exported and run."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from streams.errors import PipelineError
from streams.spec import Pipeline
from workers.releases.onnx_files import first_line
from workers.training.candidate import statistics
from workers.training.export import ExportedModel, Normalise, build, export, verify


def try_network(pipeline: Pipeline, vectors: NDArray[np.float32]) -> None:
    """Try a pipeline's network on vectors [n, features].

    Raises:
        DriftloopError: it cannot be trained or served; says why.
    """
    torch.manual_seed(int(pipeline.model.training()["seed"]))
    normalise = Normalise(*statistics(vectors, pipeline.normalised))
    offset = np.zeros(pipeline.model.outputs)
    model = ExportedModel(normalise, build(pipeline), offset)
    _learns(model, vectors)
    verify(export(model, vectors.shape[1]), model, vectors)


def _learns(model: ExportedModel, vectors: NDArray[np.float32]) -> None:
    """Raise a `PipelineError` where training could not change what the network answers."""
    model.train()
    try:
        found = model(torch.from_numpy(vectors[:64].copy()))
    except Exception as error:
        raise PipelineError(
            "model.network",
            f"fails while training: {type(error).__name__}: {first_line(error)}",
            "make it take a batch of the features",
        ) from error
    if not found.requires_grad:
        raise PipelineError(
            "model.network",
            "learns nothing: its answer depends on no parameter",
            "give it layers such as nn.Linear, and neither detach nor numpy",
        )
