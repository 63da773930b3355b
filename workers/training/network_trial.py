"""A pipeline's network, tried without training: built, exported and run."""

from __future__ import annotations

import torch

from streams.errors import PipelineError
from streams.spec import Pipeline
from streams.spec.layout import Rows, features_of
from workers.releases.onnx_files import first_line
from workers.training.candidate import statistics
from workers.training.export import Exported, build, export, verify
from workers.training.losses import loss_of
from workers.training.preparing import Normalise, as_tensors, preparing


def try_network(pipeline: Pipeline, rows: Rows) -> None:
    """Try a pipeline's network on rows.

    Raises:
        DriftloopError: it cannot be trained or served; says why.
    """
    torch.manual_seed(int(pipeline.training["seed"]))
    normalise = Normalise(*statistics(features_of(rows), pipeline.normalised))
    model = loss_of(pipeline).served(preparing(pipeline.layout, normalise), build(pipeline))
    _learns(model, rows)
    verify(export(model, pipeline.layout), model, rows)


def _learns(model: Exported, rows: Rows) -> None:
    """Raise a `PipelineError` where training could not change what the network answers."""
    model.train()
    try:
        found = model(*as_tensors(rows[:64].copy()))
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
