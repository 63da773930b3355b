"""What Triton would load from the model repository, held against the ledger.

Triton loads whatever `config.pbtxt` names. Who can write files there can change that, a model, and
the manifest beside it; a model's digest in the ledger only who can write to Kafka.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from streams.errors import ModelError
from streams.records import Manifest
from streams.spec.triton import read_config

MODEL = "model.onnx"
CONFIG = "config.pbtxt"


def require_unchanged(home: Path, known: Mapping[int, Manifest]) -> None:
    """See that all that Triton would load from a model's directory is as the ledger knows it.

    A version that the ledger does not name yet is being published, and is asked for nothing. Who
    cannot see the directory leaves this to the trainer, which can.

    Raises:
        ModelError: says what was changed.
    """
    try:
        config = (home / CONFIG).read_text()
    except (FileNotFoundError, PermissionError):
        return
    found = read_config(config)
    if found is None or found.name != home.name:
        raise ModelError(
            f"{home / CONFIG} was changed and would run something else than a model - "
            "restart the trainer, which writes it anew"
        )
    for version in found.versions:
        if version in known:
            _require_file(home / str(version) / MODEL, version, known[version])


def _require_file(path: Path, version: int, manifest: Manifest) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"version {version} cannot be read ({path}: {error.strerror})") from None
    if found != manifest.model_sha256:
        raise ModelError(
            f"version {version} was changed after it was published and is not loaded: {path} is "
            "not the file that the ledger names - put it back, or `driftloop rollback`"
        )
