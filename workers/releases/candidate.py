"""A candidate that was judged, on its way to be released."""

from __future__ import annotations

from dataclasses import dataclass

from streams.records import Action, Manifest


@dataclass(frozen=True)
class Judged:
    """A candidate, ready to be published or set aside."""

    manifest: Manifest
    onnx: bytes
    action: Action
    """What the gate says: promote, reject or inconclusive."""
    reason: str
