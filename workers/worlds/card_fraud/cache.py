"""A simulated world on disk, so that a second start need not simulate it again."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from workers.worlds.card_fraud.handbook import simulate, table
from workers.worlds.card_fraud.world import OnProgress, Payments, World

VERSION = 1  # raise it when the same world comes out otherwise


def load(
    world: World = World(),  # noqa: B008
    cache_dir: Path | None = None,
    progress: OnProgress | None = None,
) -> pd.DataFrame:
    """What `simulate` gives; kept in `cache_dir`, under a name made from the parameters."""
    if cache_dir is None:
        return simulate(world, progress)
    path = cache_dir / f"world-{_fingerprint(world)}.npz"
    frame = _read(world, path)
    if frame is None:
        frame = simulate(world, progress)
        _write(frame, path)
    elif progress:
        progress(1.0)
    return frame


def _fingerprint(world: World) -> str:
    return hashlib.sha256(f"{VERSION} {world!r}".encode()).hexdigest()[:16]


def _read(world: World, path: Path) -> pd.DataFrame | None:
    """The stored world, or nothing where there is none or the file is damaged."""
    try:
        # opened here, for numpy leaves a damaged file open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            columns = (stored[name].astype(np.int64) for name in Payments._fields)
            return table(world, Payments(*columns), stored["scenario"].astype(np.int8))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _write(frame: pd.DataFrame, path: Path) -> None:
    """Stored whole or not at all: another process may read the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "time": frame["seconds"].to_numpy(np.int32),
        "customer": frame["customer_id"].to_numpy(np.int32),
        "terminal": frame["terminal_id"].to_numpy(np.int32),
        "cents": np.rint(frame["amount"].to_numpy() * 100).astype(np.int32),
        "scenario": frame["scenario"].to_numpy(np.int8),
    }
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        try:
            np.savez_compressed(file, allow_pickle=False, **columns)
            file.close()
            os.replace(file.name, path)  # noqa: PTH105 - the source is a plain name
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
