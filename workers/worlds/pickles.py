"""Pickles of numpy arrays and tables, read so that they can do nothing else.

A pickle is a program. This one may name only what builds arrays, and tables of them; whatever else
it names is refused before it runs.
"""

from __future__ import annotations

import gzip
import importlib
import lzma
import pickle
from pathlib import Path
from typing import Any, BinaryIO

from streams.errors import ConfigurationError

_ARRAYS = {
    ("numpy", "ndarray"): "numpy",
    ("numpy", "dtype"): "numpy",
    ("numpy.core.multiarray", "_reconstruct"): "numpy._core.multiarray",
    ("numpy.core.numeric", "_frombuffer"): "numpy._core.numeric",
}
"""What a pickle may name, and where it is found in numpy 2."""
_TABLES = {
    (module, name): module
    for module, name in (
        ("builtins", "slice"),
        ("pandas._libs.internals", "_unpickle_block"),
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.indexes.base", "Index"),
        ("pandas.core.indexes.base", "_new_Index"),
        ("pandas.core.indexes.range", "RangeIndex"),
        ("pandas.core.internals.managers", "BlockManager"),
    )
}


def load(file: BinaryIO | gzip.GzipFile | lzma.LZMAFile, path: Path) -> Any:
    """What is pickled in a file; `path` names it in errors.

    Raises:
        ConfigurationError: it is damaged, or holds more than arrays and tables.
    """
    try:
        return _Arrays(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """One of the names above, and no other."""
        place = {**_ARRAYS, **_TABLES}.get((module, name))
        if place is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs")
        return getattr(importlib.import_module(place), name)
