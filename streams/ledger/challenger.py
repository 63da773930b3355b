"""The challenger as the ledger says: which versions are compared, and on which events."""

from __future__ import annotations

from collections.abc import Callable

from streams.ledger.state import LedgerState, Stage
from streams.spec import Pipeline
from streams.versions import fits


class LedgerChallenger:
    """`Challenger` of what the ledger says at the moment."""

    def __init__(self, pipeline: Pipeline, state: Callable[[], LedgerState]) -> None:
        """`state` tells what the ledger says now."""
        self._pipeline = pipeline
        self._state = state

    @property
    def version(self) -> int:
        """The challenger's version; 0 while none is compared that fits the pipeline's features."""
        state = self._state()
        pair = (state.challenger, state.incumbent)
        if (
            state.stage is Stage.CANDIDATE
            or not all(pair)
            or not all(self._fits(state, version) for version in pair)
        ):
            return 0
        return state.challenger

    @property
    def champion(self) -> int:
        """The version that it is compared with; 0 for none."""
        return self._state().incumbent

    @property
    def since(self) -> float:
        """Event time at which the comparison began, seconds since 1970."""
        return self._state().since

    @property
    def unseen(self) -> float:
        """Event time from which on no event had a part in making either version.

        A version's manifest names its slices: what it was trained and judged on. Slices are
        half-open, so an event at the end of one is in none.
        """
        state = self._state()
        return max(_seen_to(state, one) for one in (state.challenger, state.incumbent))

    def _fits(self, state: LedgerState, version: int) -> bool:
        return fits(self._pipeline, state.versions.get(version))


def _seen_to(state: LedgerState, version: int) -> float:
    manifest = state.versions.get(version)
    ends = [end for _, end in manifest.slices.values()] if manifest else []
    return max(ends, default=0.0)
