"""What versions were trained on, as the ledger says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from streams.distributions import Reference
from streams.ledger.state import LedgerState
from streams.spec import Pipeline
from streams.versions import fits

log = structlog.get_logger(__name__)

_PAUSE = 0.1


class LedgerReferences:
    """`References` of what the ledger says."""

    def __init__(
        self, pipeline: Pipeline, state: Callable[[], LedgerState], patience: float = 30.0
    ) -> None:
        """`state` tells what the ledger says now; `patience`: seconds until a version that has
        served, and that the ledger does not name yet, is taken to have no reference."""
        self._pipeline = pipeline
        self._state = state
        self._patience = patience
        self._unknown: set[int] = set()

    async def of(self, version: int) -> Reference | None:
        """A version's reference; None where it has none, or is of other features.

        A reader of the ledger may be a moment behind those who serve by it: it is waited for.
        """
        deadline = time.monotonic() + self._patience
        while (manifest := self._state().versions.get(version)) is None:
            if version in self._unknown or time.monotonic() >= deadline:
                self._say(version)
                return None
            await asyncio.sleep(_PAUSE)
        return manifest.reference if fits(self._pipeline, manifest) else None

    def _say(self, version: int) -> None:
        if version not in self._unknown:
            log.warning("a version served that the ledger does not name", version=version)
        self._unknown.add(version)
