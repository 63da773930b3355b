"""Running ONNX files on the CPU, and checking that one is what a pipeline serves. No torch here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from streams.errors import ModelError
from streams.spec.layout import MEANT, Layout, Rows, tensors_of
from streams.spec.model import OUTPUT

_FLOAT = "tensor(float)"
_EXTERNAL = "session.model_external_initializers_file_folder_path"


def session(data: bytes) -> onnxruntime.InferenceSession:
    """An onnxruntime session on one CPU thread.

    Raises:
        ModelError: these bytes are not a model that onnxruntime can run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # a version is one file, whose digest the ledger has: weights in others are never read
    options.add_session_config_entry(_EXTERNAL, "/nowhere")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common root
        if "external data" in str(error).lower():
            raise ModelError(
                "the ONNX file keeps weights in other files, which are not published with it - "
                "save it as one: onnx.save(model, path)"
            ) from None
        raise ModelError(f"onnxruntime cannot load the model: {first_line(error)}") from None


def run(model: onnxruntime.InferenceSession, rows: Rows) -> NDArray[np.float32]:
    """Scores [n, outputs] of rows.

    Raises:
        ModelError: the model fails on them, or answers no finite scores [n, outputs].
    """
    try:
        scores = np.concatenate(
            [
                model.run([OUTPUT], tensors_of(part))[0]
                for part in np.array_split(rows, max(1, -(-len(rows) // 8192)))
            ]
        )
    except Exception as error:
        raise ModelError(f"the model fails on {len(rows)} vectors: {first_line(error)}") from None
    if scores.ndim != 2 or len(scores) != len(rows) or not np.isfinite(scores).all():
        raise ModelError(
            f"the model answers {len(rows)} vectors with scores of shape {scores.shape}, "
            "or not with finite numbers - return finite logits [n, outputs]"
        )
    return scores.astype(np.float32, copy=False)


def check_signature(data: bytes, layout: Layout, outputs: int) -> None:
    """Check that an ONNX file is what the pipeline serves, for batches of any size.

    Raises:
        ModelError: wrong names, types or shapes; says which.
    """
    loaded = session(data)
    inputs = [(one.name, one.type, list(one.shape)[1:]) for one in loaded.get_inputs()]
    wanted = [(one.name, MEANT[one.dtype].onnx, list(one.shape)) for one in layout.tensors]
    if sorted(inputs) != sorted(wanted):
        raise ModelError(
            f"the ONNX file takes {inputs}, expected {_listed(wanted)} "
            "with a batch dimension before it"
        )
    given = {one.name: one.type for one in loaded.get_outputs()}
    if OUTPUT not in given:
        names = ", ".join(given)
        raise ModelError(f"the ONNX file gives {names}, expected an output named {OUTPUT!r}")
    if given[OUTPUT] != _FLOAT:
        raise ModelError(f"the ONNX file gives {OUTPUT} as {given[OUTPUT]}, expected {_FLOAT}")
    for rows in (1, 3):
        shape = run(loaded, layout.zeros(rows)).shape
        if shape != (rows, outputs):
            raise ModelError(f"the ONNX file answers {shape}, expected {(rows, outputs)}")


def _listed(wanted: list[tuple[str, str, list[int]]]) -> str:
    return f"one input {wanted[0]}" if len(wanted) == 1 else f"the inputs {wanted}"


def read_onnx(path: Path) -> bytes:
    """A pipeline's own ONNX file.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read {path} ({error.strerror}) - check the pipeline's model.onnx"
        ) from None


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
