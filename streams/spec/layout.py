"""The layout of what a version sees of an event: named tensors, side by side in one row.

A row is served, logged and trained on as the same bytes. Where features are all there is, rows are
a plain matrix; with inputs, each row is a record of NumPy's structured types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

FEATURES = "features"
"""The tensor that holds the pipeline's features."""

Rows = NDArray[Any]
"""What versions see of n events: float32 [n, features]; with inputs, [n] of `Layout.dtype`."""

Kind = Literal["numbers", "image", "sound", "indices"]
"""What a network makes of a tensor: it gets images and sounds in 0..1 and -1..1, indices whole."""


class Tensor(NamedTuple):
    """One of the tensors of a row."""

    name: str
    dtype: str
    """As NumPy spells it, little-endian."""
    shape: tuple[int, ...]
    """Of one event's."""
    kind: Kind = "numbers"
    most: int = 0
    """Indices are below this."""


class Meant(NamedTuple):
    """How others name a tensor's element type."""

    triton: str
    """In requests; in a `config.pbtxt` it has TYPE_ before it."""
    onnx: str


MEANT = {
    "<f4": Meant("FP32", "tensor(float)"),
    "|u1": Meant("UINT8", "tensor(uint8)"),
    "<i2": Meant("INT16", "tensor(int16)"),
    "<i4": Meant("INT32", "tensor(int32)"),
}
"""By NumPy's name."""


@dataclass(frozen=True)
class Layout:
    """Which tensors a row holds, in this order."""

    tensors: tuple[Tensor, ...]

    @staticmethod
    def of(features: int, inputs: Sequence[Tensor] = ()) -> Layout:
        """The layout of so many features, and of inputs after them."""
        first = [Tensor(FEATURES, "<f4", (features,))] if features or not inputs else []
        return Layout((*first, *inputs))

    @cached_property
    def tabular(self) -> bool:
        """Whether features are all there is: rows are then float32 [n, features]."""
        return [tensor.name for tensor in self.tensors] == [FEATURES]

    @property
    def features(self) -> int:
        """How many features a row has."""
        [first, *_] = self.tensors
        return first.shape[0] if first.name == FEATURES else 0

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of a row; of one number where rows are a plain matrix."""
        if self.tabular:
            return np.dtype("<f4")
        return np.dtype([(one.name, one.dtype, one.shape) for one in self.tensors])

    @cached_property
    def size(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * (self.features if self.tabular else 1)

    def zeros(self, count: int) -> Rows:
        """So many rows of zeros."""
        return np.zeros((count, self.features) if self.tabular else count, self.dtype)

    def rows(self, features: NDArray[np.float32], inputs: Mapping[str, NDArray[Any]]) -> Rows:
        """Rows of float32 [n, features] and of each input's [n, *shape], by name."""
        if self.tabular:
            return features
        rows = self.zeros(len(features))
        for tensor in self.tensors:
            rows[tensor.name] = features if tensor.name == FEATURES else inputs[tensor.name]
        return rows

    def pack(self, rows: Rows) -> list[bytes]:
        """The rows as records hold them."""
        data = rows.astype(self.dtype, copy=False).tobytes()
        return [data[start : start + self.size] for start in range(0, len(data), self.size)]

    def unpack(self, packed: Sequence[bytes]) -> Rows:
        """The inverse of `pack`; all must have a row's size."""
        return self.parse(bytearray().join(packed))

    def parse(self, data: bytes | bytearray) -> Rows:
        """The rows of packed ones that follow one another."""
        found = np.frombuffer(data, self.dtype)
        return found.reshape(-1, self.features) if self.tabular else found


def features_of(rows: Rows) -> NDArray[np.float32]:
    """The features of rows, [n, features]."""
    if rows.dtype.names is None:
        return rows
    if FEATURES not in rows.dtype.names:
        return np.empty((len(rows), 0), np.float32)
    return np.ascontiguousarray(rows[FEATURES])


def tensors_of(rows: Rows) -> dict[str, NDArray[Any]]:
    """What a model is given for rows: each tensor by name, [n, *shape], contiguous."""
    if rows.dtype.names is None:
        return {FEATURES: np.ascontiguousarray(rows, np.float32)}
    return {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names}


def pack(vectors: NDArray[np.float32]) -> list[bytes]:
    """The rows of float32 [n, features] as records of a tabular pipeline hold them."""
    return Layout.of(vectors.shape[1]).pack(vectors)


def unpack(vectors: Sequence[bytes]) -> NDArray[np.float32]:
    """Float32 [n, features] of vectors as records hold them; all of one width."""
    found = np.frombuffer(bytearray().join(vectors), np.dtype("<f4"))
    return found.reshape(len(vectors), -1) if vectors else found.reshape(0, 0)
