"""What the ledger says, computed from its entries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from streams.records import Action, LedgerEntry, Manifest

_MAKES_CHAMPION = (Action.PROMOTE, Action.ROLLBACK)


class Stage(StrEnum):
    """How far a version is on its way to serving everybody."""

    NONE = "none"
    """No version is on its way."""
    CANDIDATE = "candidate"
    """Let through by the gate, and not begun with."""
    SHADOW = "shadow"
    CANARY = "canary"
    WATCH = "watch"
    """It is champion, and its predecessor is the shadow."""


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
    """Versions that were champion when an operator or the roll-out went back to another, and not
    promoted since."""
    decided: float = 0.0
    """Largest label watermark that a candidate was decided on; its window is not tried again."""
    challenger: int = 0
    """The version on its way, the champion itself while it is watched; 0 for none."""
    stage: Stage = Stage.NONE
    """The challenger's."""
    share: float = 0.0
    """Of the entities that the challenger serves."""
    since: float = 0.0
    """Event time at which the stage, or the canary's share, began."""
    begun: float = 0.0
    """When that was decided: the time of day, seconds since 1970."""
    frozen: str = ""
    """Who froze roll-outs, `operator` or `rollout`; empty for nobody."""
    waiting: int = 0
    """The latest candidate, while another version is on its way; 0 for none."""
    length: int = 0
    """Entries that count, as far as this reader knows."""

    @property
    def manifest(self) -> Manifest | None:
        """The champion's."""
        return self.versions.get(self.champion)

    @property
    def incumbent(self) -> int:
        """The version that the challenger is compared with, which serves all it does not serve."""
        return self.previous if self.stage is Stage.WATCH else self.champion

    @property
    def compared(self) -> bool:
        """Whether challenger and incumbent are compared on live events."""
        return self.stage in (Stage.SHADOW, Stage.CANARY, Stage.WATCH)

    def kept(self, most: int) -> list[int]:
        """The versions to keep loaded.

        They are the champion and the `most - 1` that were promoted before it, without those that
        were rolled back; and both that are compared while a version is rolled out.
        """
        sound = [version for version in self.promoted if version not in self.rolled_back]
        compared = (self.incumbent, self.challenger) if self.compared else ()
        return list(dict.fromkeys([*sound[-most:], *compared]))

    def after(self, entry: LedgerEntry) -> LedgerState:
        """What the ledger says after one more entry.

        An entry that was decided on a shorter ledger than this one counts for nothing: of two
        controllers that decide on the same state, the one whose entry comes first has decided. An
        entry decided on a longer one was decided by somebody who could read more, and counts.
        """
        if entry.decided_on is not None and entry.decided_on < self.length:
            return self
        state = self._counted(entry)
        if entry.action in _MAKES_CHAMPION:
            return state._with_champion(entry)
        return state._rolled_out(entry)

    def _counted(self, entry: LedgerEntry) -> LedgerState:
        manifest = entry.manifest
        state = replace(self, length=max(self.length, entry.decided_on or 0) + 1)
        if manifest is None:
            return state
        return replace(
            state,
            versions={**self.versions, entry.version: manifest},
            decided=max(self.decided, manifest.label_watermark),
        )

    def _with_champion(self, entry: LedgerEntry) -> LedgerState:
        before = tuple(version for version in self.promoted if version != entry.version)
        bad = self.rolled_back - {entry.version}
        if entry.action is Action.ROLLBACK:
            bad |= {self.champion} - {0, entry.version}
        state = replace(
            self,
            champion=entry.version,
            previous=self.champion,
            threshold=entry.threshold,
            promoted=(*before, entry.version),
            rolled_back=bad,
        )
        arrived = entry.version == self.challenger and self.stage in (Stage.SHADOW, Stage.CANARY)
        if arrived and entry.action is Action.PROMOTE and entry.by == "rollout":
            return state._at(Stage.WATCH, entry)
        return state._ended(entry) if self.challenger else state

    def _rolled_out(self, entry: LedgerEntry) -> LedgerState:
        """After an entry that leaves the champion as it is."""
        state, ours = self, entry.version == self.challenger
        match entry.action:
            case Action.CANDIDATE if self.stage in (Stage.NONE, Stage.CANDIDATE):
                state = replace(self, challenger=entry.version)._at(Stage.CANDIDATE, entry)
            case Action.CANDIDATE if not ours:
                state = replace(self, waiting=entry.version)
            case Action.SHADOW | Action.CANARY if ours:
                state = self._at(Stage(entry.action.value), entry)
            case Action.REJECT | Action.SETTLE if ours:
                state = self._ended(entry)
            case Action.REJECT if entry.version == self.waiting:
                state = replace(self, waiting=0)
            case Action.FREEZE:
                state = replace(self, frozen="operator" if entry.by == "operator" else "rollout")
            case Action.THAW:
                state = replace(self, frozen="")
        return state

    def _at(self, stage: Stage, entry: LedgerEntry) -> LedgerState:
        return replace(self, stage=stage, share=entry.share, since=entry.event_time, begun=entry.at)

    def _ended(self, entry: LedgerEntry) -> LedgerState:
        """Nothing is on its way but who waited; only what an operator froze stays frozen."""
        waiting = self.waiting if self.waiting != entry.version else 0
        return replace(
            self,
            challenger=waiting,
            stage=Stage.CANDIDATE if waiting else Stage.NONE,
            share=0.0,
            since=entry.event_time,
            frozen="operator" if self.frozen == "operator" else "",
            waiting=0,
        )


def state_after(entries: Iterable[LedgerEntry]) -> LedgerState:
    """What the ledger says after these entries, oldest first."""
    state = LedgerState()
    for entry in entries:
        state = state.after(entry)
    return state
