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
from streams.spec.layout import Layout, Rows
from streams.spec.model import OUTPUT
from streams.spec.tasks import Task
from workers.releases.onnx_files import first_line, run, session
from workers.training.preparing import Logits, Normalise, as_tensors, preparing

TOLERANCE = 1e-5
"""Largest difference between a score of torch and of onnxruntime, as a share of its size."""


NO_LOGIT = -1e9
"""Of a candidate that is none: its share is 0, and that of none is still a number."""


class Exported(Logits):
    """What is exported: the network, with what is before and behind it."""

    def size(self, scores: NDArray[np.float32]) -> float:
        """How large scores [n, outputs] are: what a difference is held against."""
        raise NotImplementedError


class ExportedModel(Exported):
    """Of classes: normalise -> network -> prior correction -> sigmoid or softmax."""

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

    def size(self, scores: NDArray[np.float32]) -> float:
        """Of probabilities, 1."""
        del scores
        return 1.0


class ExportedValue(Exported):
    """Of a value: normalise -> network -> the label's own unit -> quantiles that do not cross.

    Quantiles are sorted, which brings them nearer to the true ones wherever they cross
    (Chernozhukov, Fernández-Val and Galichon, "Quantile and probability curves without crossing",
    Econometrica 78, 2010).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, normalise: nn.Module, network: nn.Module, mean: float, scale: float) -> None:
        super().__init__(normalise, network)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, *tensors: Tensor) -> Tensor:
        """The tensors, each [n, *shape], as they are served -> [n, 1 + quantiles], the point
        first."""
        found = super().forward(*tensors) * self.scale + self.mean
        quantiles = found.shape[1] - 1
        if quantiles < 2:
            return found
        # not sort: its export asks the tensor how wide it is, and TensorRT wants a constant
        rising = torch.topk(found[:, 1:], quantiles, dim=1, largest=False, sorted=True).values
        return torch.cat([found[:, :1], rising], dim=1)

    def size(self, scores: NDArray[np.float32]) -> float:
        """The largest of them, and what they were made from."""
        made_from = float(self.scale) + abs(float(self.mean))
        return made_from + float(np.abs(scores).max(initial=0.0))


class ExportedRanking(Exported):
    """Of candidates: normalise -> network -> softmax over those that there are; 0 for the others.

    The last tensor is the candidates', whose first column says which there are.
    """

    def forward(self, *tensors: Tensor) -> Tensor:
        """The tensors, each [n, *shape], as they are served -> shares [n, most]."""
        present = tensors[-1][:, :, 0]
        logits = super().forward(*tensors)
        return torch.softmax(torch.where(present > 0, logits, NO_LOGIT), dim=1) * present

    def size(self, scores: NDArray[np.float32]) -> float:
        """Of shares, 1."""
        del scores
        return 1.0


_PROBABILITIES = (nn.Sigmoid, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax)
_ONE_SIDED = (*_PROBABILITIES, nn.ReLU, nn.Softplus)


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
    _check_last(network, pipeline.predicts)
    if shape != (2, outputs):
        raise PipelineError(
            "model.network",
            f"maps {_shapes(layout, 2)} to {list(shape)}, expected [2, {outputs}]",
            _returns(pipeline.predicts),
        )
    return network


def _returns(task: Task) -> str:
    if task.ranks:
        return "return one logit per candidate"
    if task.classes:
        return "return one logit per output, or set model.outputs"
    return "return the point, then each of model.quantiles"


def _check_last(network: nn.Module, task: Task) -> None:
    """Raise a `PipelineError` where the last layer is one too many."""
    logits = bool(task.classes) or task.ranks
    last = next(reversed(network), None) if isinstance(network, nn.Sequential) else None
    if logits and isinstance(last, _PROBABILITIES):
        raise PipelineError(
            "model.network",
            f"ends in {type(last).__name__}, which is put around it anyway",
            "return logits: leave the last layer out",
        )
    if not logits and isinstance(last, _ONE_SIDED):
        raise PipelineError(
            "model.network",
            f"ends in {type(last).__name__}, and labels are standardised: about half are below 0",
            "leave the last layer out",
        )


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
    """The ONNX file without the notes that the exporter leaves: source paths, stack traces.

    The number of rows is called n, where it had a name that depends on the module's source.
    """
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
    rows = {one.type.tensor_type.shape.dim[0].dim_param for one in model.graph.input}
    for part in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        for side in part.type.tensor_type.shape.dim:
            if side.dim_param in rows:
                side.dim_param = "n"
    return bytes(model.SerializeToString(deterministic=True))


def _strip(part: Any) -> None:
    part.ClearField("doc_string")
    part.ClearField("metadata_props")


def verify(data: bytes, module: Exported, sample: Rows) -> None:
    """Check that the ONNX file answers as the module does, for the whole sample and for one row.

    Raises:
        ModelError: a score differs by more than `TOLERANCE` of its size, or the module fails.
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
        if not difference <= TOLERANCE * module.size(expected):
            raise ModelError(
                f"the ONNX file differs from torch by {difference:.2g} on {len(part)} vectors - "
                "the network does something that its export does not"
            )
