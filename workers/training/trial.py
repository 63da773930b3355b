"""A pipeline's model, tried on vectors: `python -m workers.training.trial MODULE`.

Reads vectors from standard input (float32 [n, features], little-endian), builds or fits the model,
exports it and runs the ONNX file on them, as training and serving will. Writes what is wrong as one
line, or nothing.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from streams.errors import DriftloopError, ModelError
from streams.spec import Pipeline
from streams.spec.functions import place_of
from streams.spec.loading import explained
from workers.environment import find_pipeline


def main() -> None:
    """Try the model of a module; exits with 1 where it cannot be trained or served."""
    pipeline = find_pipeline(sys.argv[1])
    features = len(pipeline.feature_names)
    vectors = np.frombuffer(sys.stdin.buffer.read(), "<f4").reshape(-1, features)
    try:
        try_here(pipeline, vectors)
    except ModelError as error:
        print(error)
        sys.exit(1)


def try_here(pipeline: Pipeline, vectors: NDArray[np.float32]) -> None:
    """Try a pipeline's network, or its fit, on vectors [n, features] in this process.

    Raises:
        ModelError: it cannot be trained or served; says where and why.
    """
    model = pipeline.model
    try:
        if model.fit is not None:
            from workers.training.estimators.trial import try_fit

            try_fit(pipeline, vectors)
        else:
            from workers.training.network_trial import try_network

            try_network(pipeline, vectors)
    except DriftloopError as error:
        cause = error.__cause__
        where = f"{explained(cause)}".partition(": ")[0] if cause is not None else ""
        where = where if ", line " in where else _declared(model.network or model.fit)
        raise ModelError(f"{where}: {error}" if where else str(error)) from None


def _declared(function: object) -> str:
    """Where the network's factory, the fit, or what it is built by stands; empty where unknown."""
    return place_of(getattr(function, "factory", function))


if __name__ == "__main__":
    main()
