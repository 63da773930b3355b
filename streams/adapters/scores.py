"""Checks the answer of a model server: its shape, and that it says anything."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError, NotFinite


def check_scores(
    name: str, version: int, scores: Any, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """The scores, if they are what the signature says; some may not be finite, but not all.

    Raises:
        NotFinite: no row is finite.
        ModelError: wrong shape.
    """
    found = None if scores is None else np.asarray(scores)
    if found is None or found.shape != shape:
        said = "none" if found is None else f"{found.shape}"
        raise ModelError(
            f"model {name} version {version} answered scores of shape {said}, expected {shape} - "
            "roll back to an earlier version"
        )
    if not np.isfinite(found).all(axis=1).any():
        raise NotFinite(
            f"model {name} version {version} answered scores that are not finite - "
            "roll back to an earlier version"
        )
    return found.astype(np.float32, copy=False)
