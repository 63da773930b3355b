"""The `onnxruntime` backend of the embedded Triton, which has only the one for Python.

Triton runs this file, as `backends/onnxruntime/model.py`, for every model whose `config.pbtxt`
names the backend, in a stub process of its own for each instance: it may import numpy 1,
onnxruntime and Triton's utilities only.
"""

import hashlib
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# the stub's interpreter is an isolated one, which does not look at PYTHONPATH by itself
sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

_NICENESS = 10
"""Of opening a model: the versions that answer meanwhile have the cores first."""


class TritonPythonModel:
    """One instance; Triton runs as many as `config.pbtxt` says."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model of this version, if it is the one that its manifest names."""
        home = Path(args["model_repository"]) / args["model_version"]
        data = (home / "model.onnx").read_bytes()
        manifest = home / "manifest.json"
        if manifest.exists():
            expected = json.loads(manifest.read_text())["model_sha256"]
            if hashlib.sha256(data).hexdigest() != expected:
                raise ValueError(f"{home}/model.onnx was changed after it was published")
        with ThreadPoolExecutor(1, initializer=_give_way) as opening:
            self._session = opening.submit(_session, data).result()
        config = json.loads(args["model_config"])
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [entry["name"] for entry in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Score each request; one that fails gets an error of its own."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            feed = {
                name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in self._inputs
            }
            scores = self._session.run(self._outputs, feed)
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(repr(error)))
        tensors = [
            pb_utils.Tensor(name, np.ascontiguousarray(values))
            for name, values in zip(self._outputs, scores, strict=True)
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _give_way() -> None:
    """Lower the priority of this thread alone; a process could not raise its own again."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _session(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
