"""A pipeline's model, tried on rows: `python -m workers.training.trial MODULE`.

Reads rows from standard input (`streams.spec.layout`), builds or fits the model,
exports it and runs the ONNX file on them, as training and serving will. Writes what is wrong as one
line, or nothing.
"""

from __future__ import annotations

import sys

from streams.errors import DriftloopError, ModelError
from streams.spec import Pipeline
from streams.spec.functions import place_of
from streams.spec.layout import Rows
from streams.spec.loading import explained
from workers.environment import find_pipeline


def main() -> None:
    """Try the model of a module; exits with 1 where it cannot be trained or served."""
    pipeline = find_pipeline(sys.argv[1]).learned
    rows = pipeline.layout.parse(bytearray(sys.stdin.buffer.read()))
    try:
        try_here(pipeline, rows)
    except ModelError as error:
        print(error)
        sys.exit(1)


def try_here(pipeline: Pipeline, rows: Rows) -> None:
    """Try a pipeline's network, or its fit, on rows in this process.

    Raises:
        ModelError: it cannot be trained or served; says where and why.
    """
    model = pipeline.model
    try:
        if model.fit is not None:
            from workers.training.estimators.trial import try_fit

            try_fit(pipeline, rows)
        else:
            from workers.training.network_trial import try_network

            try_network(pipeline, rows)
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
