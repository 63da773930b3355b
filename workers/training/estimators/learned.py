"""What a ready estimator has learned, and the proof that its ONNX file answers as it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from workers.releases.onnx_files import first_line, run, session

TOLERANCE = 1e-5
"""Largest difference between a score of a library and of onnxruntime, as a share of its size."""


@dataclass(frozen=True)
class Learned:
    """An ONNX file, and what it comes from."""

    onnx: bytes
    """`features` [n, f] -> `scores` [n, outputs]."""
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]] | None = None
    """What the library itself answers, [n, f] -> [n, outputs]; None for a function's."""
    said: Mapping[str, Any] | None = None
    """Its parameters, for the manifest."""
    packages: tuple[str, ...] = ()
    """Whose versions decide the bytes."""
    kept: tuple[str, bytes] | None = None
    """What the next candidate can begin from, and before it, its kind."""


def verify(learned: Learned, name: str, vectors: NDArray[np.float32], size: float) -> None:
    """Check that the ONNX file answers as the library does, for all vectors and for one row.

    `size` is how large scores are.

    Raises:
        ModelError: a score differs by more than `TOLERANCE`.
    """
    assert learned.predict is not None
    loaded = session(learned.onnx)
    for part in (vectors, vectors[:1]):
        expected = learned.predict(part)
        difference = float(np.abs(run(loaded, part) - expected).max(initial=0.0))
        if not difference <= TOLERANCE * size:
            raise ModelError(
                f"the ONNX file differs from {name} by {difference:.2g} on {len(part)} vectors - "
                "leave out the parameter that its converter does not know, or scale the features"
            )


def not_exported(name: str, error: Exception) -> ModelError:
    """The error of a converter, in one line."""
    return ModelError(
        f"{name} cannot be exported to ONNX: {type(error).__name__}: {first_line(error)} - use "
        "what its converter knows"
    )
