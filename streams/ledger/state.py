"""What the ledger says, computed from its entries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from streams.records import Action, LedgerEntry, Manifest

_MAKES_CHAMPION = (Action.PROMOTE, Action.ROLLBACK)


@dataclass(frozen=True)
class LedgerState:
    """What the ledger says at some point."""

    champion: int = 0
    """0 while no version was promoted."""
    previous: int = 0
    """The champion before; 0 for none."""
    threshold: float = 0.5
    versions: dict[int, Manifest] = field(default_factory=dict)
    """Manifest by version, of every candidate that was ever decided on."""
    promoted: tuple[int, ...] = ()
    """Versions that have been champion, the latest last; each once."""
    rolled_back: frozenset[int] = frozenset()
    """Versions that were champion when an operator went back to another, and not promoted since."""
    decided: float = 0.0
    """Largest label watermark that a candidate was decided on; its window is not tried again."""
    challenger: int = 0
    """The version that is compared with the champion on live events; 0 for none."""
    since: float = 0.0
    """Event time at which that comparison began."""

    @property
    def manifest(self) -> Manifest | None:
        """The champion's."""
        return self.versions.get(self.champion)

    @property
    def incumbent(self) -> int:
        """The version that the challenger is compared with."""
        return self.champion

    def after(self, entry: LedgerEntry) -> LedgerState:
        """What the ledger says after one more entry."""
        state, manifest = self, entry.manifest
        if manifest is not None:
            state = replace(
                state,
                versions={**state.versions, entry.version: manifest},
                decided=max(state.decided, manifest.label_watermark),
            )
        if entry.action is Action.SHADOW:
            return replace(state, challenger=entry.version, since=entry.event_time)
        if entry.action not in _MAKES_CHAMPION:
            return state
        before = tuple(version for version in state.promoted if version != entry.version)
        bad = state.rolled_back - {entry.version}
        if entry.action is Action.ROLLBACK:
            bad |= {state.champion} - {0, entry.version}
        return replace(
            state,
            champion=entry.version,
            previous=state.champion,
            threshold=entry.threshold,
            promoted=(*before, entry.version),
            rolled_back=bad,
            challenger=0,
            since=0.0,
        )


def state_after(entries: Iterable[LedgerEntry]) -> LedgerState:
    """What the ledger says after these entries, oldest first."""
    state = LedgerState()
    for entry in entries:
        state = state.after(entry)
    return state
