"""ONNX graphs put after an estimator's own: which columns are scores, and under which prior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, compose, helper, numpy_helper

from streams.errors import ModelError
from streams.spec.model import INPUT, OUTPUT

OPSETS = {"": 17, "ai.onnx.ml": 3}
"""What converters are asked for: an older onnxruntime, such as some Triton has, runs it, too."""
_IR = 8
"""Format of a file with these opsets."""
_LEAST_OPSET = 7
"""From which on the operations that are added mean what they do now."""
Nodes = Sequence[tuple[str, Sequence[str], str]]
"""Of each: operation, inputs, output."""


def selected(
    model: onnx.ModelProto, probabilities: str, classes: Sequence[int], outputs: int
) -> bytes:
    """A classifier's graph that gives `scores` [n, outputs] and nothing else.

    `probabilities` [n, classes] is an output of it; `classes` say which class each column stands
    for. A class that it does not know has the score 0.
    """
    known = max(2, outputs)
    columns = np.zeros((len(classes), known), np.float32)
    columns[range(len(classes)), classes] = 1.0
    chosen = columns[:, 1:] if outputs == 1 else columns
    nodes = [("MatMul", (f"own.{probabilities}", "after.columns"), OUTPUT)]
    return _followed(model, nodes, {"after.columns": chosen}, outputs)


def renamed(model: onnx.ModelProto, values: str) -> bytes:
    """A regressor's graph that gives its output `values` [n, 1] as `scores`, and nothing else."""
    return _followed(model, [("Identity", (f"own.{values}",), OUTPUT)], {}, 1)


def corrected(data: bytes, weights: NDArray[np.float64]) -> bytes:
    """A file whose `scores` [n, outputs] are probabilities under the true prior.

    Weighting class k by w_k in training is training as if it were w_k times as frequent, so what
    came out is proportional to w_k times the true probability (Elkan, The Foundations of
    Cost-Sensitive Learning, 2001): each is divided by its w_k, and they are made to sum to 1.
    Without weights the file is as it was.

    Raises:
        ModelError: the file is of an operator set too old to add to.
    """
    if np.all(weights == weights[0]):
        return data
    model = onnx.load_from_string(data)
    count = len(weights)
    dims = model.graph.output[_position(model)].type.tensor_type.shape.dim
    binary = count == 2 and (len(dims) < 2 or dims[1].dim_value in (0, 1))
    shared = {
        "after.weights": weights.astype(np.float32),
        "after.ones": np.ones((count, count), np.float32),
    }
    nodes: list[tuple[str, Sequence[str], str]] = [
        ("Div", ("after.both", "after.weights"), "after.true"),
        ("MatMul", ("after.true", "after.ones"), "after.sum"),
    ]
    given, outputs = f"own.{OUTPUT}", count
    if binary:  # [p] -> [1 - p, p], and back
        outputs = 1
        shared |= {
            "after.signs": np.array([[-1.0, 1.0]], np.float32),
            "after.one": np.array([1.0, 0.0], np.float32),
            "after.last": np.array([[0.0], [1.0]], np.float32),
        }
        nodes = [
            ("MatMul", (given, "after.signs"), "after.signed"),
            ("Add", ("after.signed", "after.one"), "after.both"),
            *nodes,
            ("Div", ("after.true", "after.sum"), "after.probabilities"),
            ("MatMul", ("after.probabilities", "after.last"), OUTPUT),
        ]
    else:
        nodes = [
            ("Identity", (given,), "after.both"),
            *nodes,
            ("Div", ("after.true", "after.sum"), OUTPUT),
        ]
    return _followed(model, nodes, shared, outputs)


def _position(model: onnx.ModelProto) -> int:
    return [one.name for one in model.graph.output].index(OUTPUT)


def _followed(
    model: onnx.ModelProto,
    nodes: Nodes,
    tensors: dict[str, NDArray[np.float32]],
    outputs: int,
) -> bytes:
    """The model with nodes after it, whose own tensors but its input are named `own.` before.

    Equal models give equal bytes.
    """
    opsets = {one.domain: one.version for one in model.opset_import}
    opsets.setdefault("", OPSETS[""])
    if opsets[""] < _LEAST_OPSET:
        raise ModelError(
            f"the ONNX file is of operator set {opsets['']} - export it with {_LEAST_OPSET} or "
            "later, or leave positive_weight out of model.parameters"
        )
    found = compose.add_prefix(model, "own.", rename_inputs=False)
    graph = found.graph
    added: list[NodeProto] = [helper.make_node(op, one, [to]) for op, one, to in nodes]
    graph.node.extend(added)
    graph.initializer.extend(numpy_helper.from_array(one, name) for name, one in tensors.items())
    del graph.output[:]
    shape: list[int | str | None] = ["n", outputs]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))
    del found.opset_import[:]
    found.opset_import.extend(helper.make_opsetid(*one) for one in sorted(opsets.items()))
    found.ir_version = max(found.ir_version, _IR)
    assert [one.name for one in graph.input] == [INPUT]
    return bytes(found.SerializeToString(deterministic=True))
