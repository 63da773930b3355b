"""From a pipeline's network to the ONNX file that is served, and the proof that they agree."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streams.errors import ModelError, PipelineError
from streams.spec import Pipeline
from streams.spec.layout import FEATURES, Layout, Rows, tensors_of
from streams.spec.layout import Tensor as RowTensor
from streams.spec.model import OUTPUT
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


def statistics(
    vectors: NDArray[np.float32], normalised: Iterable[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation by column, [features] each.

    Columns that are not normalised, and those without variance, get mean 0 or theirs, and scale 1.
    """
    scaled = np.fromiter(normalised, bool)
    mean = np.where(scaled, vectors.mean(axis=0, dtype=np.float64), 0.0)
    deviation = vectors.std(axis=0, dtype=np.float64)
    # a constant column's deviation may come out as rounding noise
    vary = deviation > 1e-7 * np.maximum(1.0, np.abs(mean))
    return mean, np.where(scaled & vary, deviation, 1.0)


class Prepare(nn.Module):
    """What a network is given of a row with inputs: its one tensor, or all by name.

    Features are normalised. Images become float32 [n, channels, height, width] of 0 to 1, sounds
    float32 of -1 to 1, and indices int64.
    """

    def __init__(self, layout: Layout, normalise: Normalise) -> None:
        super().__init__()
        self.normalise = normalise
        self._tensors = layout.tensors

    def forward(self, *given: Tensor) -> Tensor | dict[str, Tensor]:
        """The tensors of n rows, each [n, *shape], in the layout's order."""
        pairs = zip(self._tensors, given, strict=True)
        made = {one.name: self._prepared(one, values) for one, values in pairs}
        return made if len(made) > 1 else next(iter(made.values()))

    def _prepared(self, tensor: RowTensor, values: Tensor) -> Tensor:
        match tensor.kind:
            case "image":
                grey = len(tensor.shape) == 2
                channels = values.unsqueeze(1) if grey else values.permute(0, 3, 1, 2)
                return channels.to(torch.float32) / 255
            case "sound":
                return values.to(torch.float32) / 32768
            case "indices":
                return values.to(torch.int64)
            case _:
                made: Tensor = self.normalise(values) if tensor.name == FEATURES else values
                return made


def preparing(layout: Layout, normalise: Normalise) -> nn.Module:
    """What goes before a network of this layout."""
    return normalise if layout.tabular else Prepare(layout, normalise)


class Logits(nn.Module):
    """A network, and what goes before it: the tensors of n rows -> logits [n, outputs]."""

    def __init__(self, normalise: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, *tensors: Tensor) -> Tensor:
        """The tensors, each [n, *shape], as they are served."""
        given = self.normalise(*tensors)
        found: Tensor
        found = self.network(**given) if isinstance(given, dict) else self.network(given)
        return found


class ExportedModel(Logits):
    """What is exported: normalise -> network -> prior correction -> sigmoid or softmax."""

    offset: Tensor

    def __init__(
        self, normalise: nn.Module, network: nn.Module, offset: NDArray[np.float64]
    ) -> None:
        super().__init__(normalise, network)
        # added to the logits; undoes what class weights in the loss did to the prior
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32))

    def forward(self, *tensors: Tensor) -> Tensor:
        """The tensors, each [n, *shape], as they are served -> probabilities [n, outputs]."""
        logits = super().forward(*tensors) + self.offset
        return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)


_PUT_AROUND = (nn.Sigmoid, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax)


def build(pipeline: Pipeline) -> nn.Module:
    """The pipeline's network, with weights as the current seed draws them.

    Raises:
        PipelineError: the factory fails, or its network does not map [n, features], and the
            inputs, to [n, outputs].
    """
    layout, outputs = pipeline.layout, pipeline.model.outputs
    features, takes = layout.features, _takes(layout)
    assert pipeline.model.network is not None
    try:
        network = pipeline.model.network(features)
        if not isinstance(network, nn.Module):
            raise TypeError(f"returned {type(network).__name__}, not a torch.nn.Module")
        with torch.no_grad():
            blank = Normalise(np.zeros(features), np.ones(features))
            whole = Logits(preparing(layout, blank), network).eval()
            shape = tuple(whole(*as_tensors(layout.zeros(2))).shape)
            network.train()
    except (Exception, SystemExit) as error:
        raise PipelineError(
            "model.network",
            f"fails on {_shapes(layout, 2)}: {type(error).__name__}: {first_line(error)}",
            f"return a torch.nn.Module that takes {takes}",
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
            f"maps {_shapes(layout, 2)} to {list(shape)}, expected [2, {outputs}]",
            "return one logit per output, or set model.outputs",
        )
    return network


def as_tensors(rows: Rows) -> list[Tensor]:
    """The tensors of rows, each [n, *shape]."""
    return [torch.from_numpy(values) for values in tensors_of(rows).values()]


def _shapes(layout: Layout, rows: int) -> str:
    return ", ".join(str([rows, *one.shape]) for one in layout.tensors)


def _takes(layout: Layout) -> str:
    """What a network of this layout has to take."""
    if layout.tabular:
        return "float32 [n, features]"
    names = [one.name for one in layout.tensors]
    return f"forward(self, {', '.join(names)})" if len(names) > 1 else f"the {names[0]} alone"


def export(module: nn.Module, layout: Layout) -> bytes:
    """The module as one ONNX file: the tensors, by name -> `scores` [n, outputs], any n.

    Equal modules give equal bytes: nothing of this machine (paths, traces) is kept.

    Raises:
        ModelError: the module uses an operation that ONNX does not have.
    """
    module.eval()
    sample = as_tensors(layout.zeros(2))
    free = [{0: torch.export.Dim("n")} for _ in sample]
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):  # torchvision is missing, passes are run
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():  # the exporter's own use of what torch deprecates
            warnings.simplefilter("ignore")
            graph = torch.export.export(
                module, tuple(sample), dynamic_shapes=(tuple(free),), strict=False
            )
            program = torch.onnx.export(
                graph,
                dynamo=True,
                verbose=False,
                input_names=[one.name for one in layout.tensors],
                output_names=[OUTPUT],
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


def verify(data: bytes, module: nn.Module, sample: Rows) -> None:
    """Check that the ONNX file answers as the module does, for the whole sample and for one row.

    Raises:
        ModelError: a score differs by more than `TOLERANCE`, or the module fails.
    """
    loaded = session(data)
    module.eval()
    for part in (sample, sample[:1]):
        try:
            with torch.no_grad():
                expected = module(*as_tensors(part)).numpy()
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
