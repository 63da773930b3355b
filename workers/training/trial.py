"""A pipeline's network, tried without training: `python -m workers.training.trial MODULE`.

Reads rows from standard input (`streams.spec.layout`), builds the network,
exports it and runs the ONNX file on them, as training and serving will. Writes what is wrong as one
line, or nothing.
"""

from __future__ import annotations

import sys

import torch

from streams.errors import DriftloopError, ModelError, PipelineError
from streams.spec import Pipeline
from streams.spec.functions import place_of
from streams.spec.layout import Rows, features_of
from streams.spec.loading import explained
from workers.environment import find_pipeline
from workers.releases.onnx_files import first_line
from workers.training.export import Exported, build, export, verify
from workers.training.losses import loss_of
from workers.training.preparing import Normalise, as_tensors, preparing, statistics


def main() -> None:
    """Try the network of a module; exits with 1 where it cannot be trained or served."""
    pipeline = find_pipeline(sys.argv[1])
    rows = pipeline.layout.parse(bytearray(sys.stdin.buffer.read()))
    try:
        try_network(pipeline, rows)
    except ModelError as error:
        print(error)
        sys.exit(1)


def try_network(pipeline: Pipeline, rows: Rows) -> None:
    """Try a pipeline's network on rows.

    Raises:
        ModelError: it cannot be trained or served; says where and why.
    """
    torch.manual_seed(int(pipeline.training["seed"]))
    try:
        normalise = Normalise(*statistics(features_of(rows), pipeline.normalised))
        model = loss_of(pipeline).served(preparing(pipeline.layout, normalise), build(pipeline))
        _learns(model, rows)
        verify(export(model, pipeline.layout), model, rows)
    except DriftloopError as error:
        cause = error.__cause__
        where = f"{explained(cause)}".partition(": ")[0] if cause is not None else ""
        where = where if ", line " in where else place_of(pipeline.model.network)
        raise ModelError(f"{where}: {error}" if where else str(error)) from None


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


if __name__ == "__main__":
    main()
