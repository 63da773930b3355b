"""From a pipeline's network to the ONNX file that is served, and the proof that they agree."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streams.errors import ModelError, PipelineError
from streams.spec import Pipeline
from streams.spec.model import INPUT, OUTPUT
from workers.releases.onnx_files import first_line, run, session

TOLERANCE = 1e-5
"""Largest difference between a score of torch and of onnxruntime."""


class Normalise(nn.Module):
    """(x - mean) / scale, column by column; statistics are float32 [features]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, vectors: Tensor) -> Tensor:
        """[n, features] -> [n, features]."""
        return (vectors - self.mean) / self.scale


class ExportedModel(nn.Module):
    """What is exported: normalise -> network -> prior correction -> sigmoid or softmax."""

    offset: Tensor

    def __init__(
        self, normalise: Normalise, network: nn.Module, offset: NDArray[np.float64]
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network
        # added to the logits; undoes what class weights in the loss did to the prior
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32))

    def forward(self, vectors: Tensor) -> Tensor:
        """[n, features] as served -> probabilities [n, outputs]."""
        logits: Tensor = self.network(self.normalise(vectors)) + self.offset
        return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)


_PUT_AROUND = (nn.Sigmoid, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax)


def build(pipeline: Pipeline) -> nn.Module:
    """The pipeline's network, with weights as the current seed draws them.

    Raises:
        PipelineError: the factory fails, or its network does not map [n, features] to
            [n, outputs].
    """
    features, outputs = len(pipeline.feature_names), pipeline.model.outputs
    assert pipeline.model.network is not None
    try:
        network = pipeline.model.network(features)
        if not isinstance(network, nn.Module):
            raise TypeError(f"returned {type(network).__name__}, not a torch.nn.Module")
        with torch.no_grad():
            network.eval()
            shape = tuple(network(torch.zeros(2, features)).shape)
            network.train()
    except (Exception, SystemExit) as error:
        raise PipelineError(
            "model.network",
            f"fails on [2, {features}]: {type(error).__name__}: {first_line(error)}",
            "return a torch.nn.Module that takes float32 [n, features]",
        ) from error
    last = next(reversed(network), None) if isinstance(network, nn.Sequential) else None
    if isinstance(last, _PUT_AROUND):
        raise PipelineError(
            "model.network",
            f"ends in {type(last).__name__}, which is put around it anyway",
            "return logits: leave the last layer out",
        )
    if shape != (2, outputs):
        raise PipelineError(
            "model.network",
            f"maps [2, {features}] to {list(shape)}, expected [2, {outputs}]",
            "return one logit per output, or set model.outputs",
        )
    return network


def export(module: nn.Module, features: int) -> bytes:
    """The module as one ONNX file: `features` [n, f] -> `scores` [n, outputs], any n.

    Equal modules give equal bytes: nothing of this machine (paths, traces) is kept.

    Raises:
        ModelError: the module uses an operation that ONNX does not have.
    """
    module.eval()
    sample = torch.zeros(2, features)
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):  # torchvision is missing, passes are run
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():  # the exporter's own use of what torch deprecates
            warnings.simplefilter("ignore")
            graph = torch.export.export(
                module, (sample,), dynamic_shapes=({0: torch.export.Dim("n")},), strict=False
            )
            program = torch.onnx.export(
                graph, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT]
            )
    except Exception as error:
        raise ModelError(
            f"the network cannot be exported to ONNX: {first_line(error)} - use what ONNX has, and "
            "torch.where instead of an `if` on values"
        ) from error
    assert program is not None
    return _bare(program.model_proto)


def _bare(model: onnx.ModelProto) -> bytes:
    """The ONNX file without the notes that the exporter leaves: source paths, stack traces."""
    _strip(model)
    _strip(model.graph)
    for part in (
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.initializer,
        *model.graph.input,
        *model.graph.output,
        *model.functions,
    ):
        _strip(part)
    return bytes(model.SerializeToString(deterministic=True))


def _strip(part: Any) -> None:
    part.ClearField("doc_string")
    part.ClearField("metadata_props")


def verify(data: bytes, module: nn.Module, sample: NDArray[np.float32]) -> None:
    """Check that the ONNX file answers as the module does, for the whole sample and for one row.

    Raises:
        ModelError: a score differs by more than `TOLERANCE`, or the module fails.
    """
    loaded = session(data)
    module.eval()
    for part in (sample, sample[:1]):
        try:
            with torch.no_grad():
                expected = module(torch.from_numpy(np.ascontiguousarray(part))).numpy()
        except Exception as error:
            raise ModelError(
                f"the network fails on {len(part)} vectors: {type(error).__name__}: "
                f"{first_line(error)} - make it take what the features give, as an nn.Embedding "
                "takes the indices of its Bucket"
            ) from error
        difference = float(np.abs(run(loaded, part) - expected).max(initial=0.0))
        if not difference <= TOLERANCE:
            raise ModelError(
                f"the ONNX file differs from torch by {difference:.2g} on {len(part)} vectors - "
                "the network does something that its export does not"
            )
