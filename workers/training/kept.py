"""What a model's file carries for the candidate after it, which begins there.

It stands in the ONNX file's own notes: the ledger's digest covers it, and whoever has a version has
what comes next. Servers pass over it.
"""

from __future__ import annotations

import base64

import onnx
import structlog

_KEY = "driftloop.kept"
log = structlog.get_logger(__name__)


def with_kept(data: bytes, kind: str, kept: bytes) -> bytes:
    """The ONNX file with this in its notes; equal ones give equal bytes.

    `kind` says who can go on with it.
    """
    model = onnx.load_from_string(data)
    model.metadata_props.add(key=f"{_KEY}.{kind}", value=base64.b64encode(kept).decode())
    return bytes(model.SerializeToString(deterministic=True))


def kept(data: bytes | None, kind: str) -> bytes | None:
    """What an ONNX file carries of this kind; None where there is none, and the log says so."""
    if data is None:
        return None
    for note in onnx.load_from_string(data).metadata_props:
        if note.key == f"{_KEY}.{kind}":
            return base64.b64decode(note.value)
    log.warning("the champion's file carries nothing to begin from: the candidate begins anew")
    return None
