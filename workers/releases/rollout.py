"""How far a version goes next: forwards, back, or nowhere. Pure, and all of the policy.

A version that the gate let through is a candidate; then it is in the shadow, serves a canary's
share, a larger one, and at last everybody, watched against its predecessor:

    candidate -> shadow -> canary 1 % -> 5 % -> 25 % -> champion, watched -> settled

From each of them it can be taken back. What is in the ledger is all that is remembered, so a
controller that was killed goes on where it was. Whoever executes a transition does what it takes
first (load the version, say), appends its entry, and reads the ledger: of two that decide on the
same state the second's entry counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streams.ledger.state import LedgerState, Stage
from streams.records import Action, LedgerEntry
from streams.spec import RollOut

_BY = "rollout"


@dataclass(frozen=True)
class StageEvidence:
    """What is known of the challenger beside the incumbent, since its stage or share began.

    Intervals are of the mean of paired differences in loss, the challenger's minus the
    incumbent's, from confidence sequences that began with the stage, each with
    `RollOut.step_confidence`.
    """

    version: int
    """The challenger that it is about."""
    since: float
    """Event time at which it begins, `LedgerState.since`."""
    labelled: int = 0
    """Events since then that both versions scored and whose labels have matured."""
    latest_label: float = 0.0
    """When the latest label came, in event time: of any event, and no label made by the horizon."""
    interval: tuple[float, float] = (-1.0, 1.0)
    slices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Interval by slice, of the slices with enough support."""
    failed: tuple[str, ...] = ()
    """What needs no label and is beyond its bound, in words: scores that are constant, not finite,
    flipped or distributed otherwise than declared, answers that come too slowly."""


@dataclass(frozen=True)
class Transition:
    """One step of a roll-out, to be executed and recorded."""

    action: Action
    version: int
    """The version the action is on; of a roll-back the one that serves again."""
    reason: str
    share: float = 0.0
    """Of the entities, from now on the challenger's."""
    evidence: Mapping[str, float] = field(default_factory=dict)

    def entry(self, state: LedgerState, now: float, at: float) -> LedgerEntry:
        """The entry that records it.

        Args:
            state: What it was decided on.
            now: Event time, as it was decided at.
            at: The time of day, seconds since 1970.
        """
        manifest = state.versions.get(self.version)
        return LedgerEntry(
            action=self.action,
            version=self.version,
            previous=state.champion,
            at=at,
            reason=self.reason,
            by=_BY,
            threshold=manifest.threshold if manifest else state.threshold,
            manifest=manifest,
            share=self.share,
            evidence=dict(self.evidence),
            event_time=now,
            decided_on=state.length,
        )


def decide(
    policy: RollOut, state: LedgerState, evidence: StageEvidence, now: float
) -> Transition | None:
    """The next step; None while there is none.

    Args:
        policy: The pipeline's.
        state: What the ledger says.
        evidence: About the challenger in its stage; of a candidate there is none yet.
        now: Event time: of the newest event that was served.
    """
    if state.stage is Stage.CANDIDATE:
        return None if state.frozen else _begin(policy, state)
    # evidence of another stage says nothing; where no version is on its way there is none
    if state.stage is Stage.NONE or not _is_about(state, evidence):
        return None
    if reason := _proven_bad(policy, evidence):
        return _take_back(state, evidence, reason)
    silence = now - max(evidence.latest_label, state.since)
    if silence > policy.every_seconds or state.frozen:
        return _freeze_or_thaw(policy, state, silence)
    lasted = now - state.since >= _least_seconds(policy, state)
    return _onwards(policy, state, evidence) if lasted else None


def _is_about(state: LedgerState, evidence: StageEvidence) -> bool:
    return (evidence.version, evidence.since) == (state.challenger, state.since)


def _begin(policy: RollOut, state: LedgerState) -> Transition:
    version = state.challenger
    if not policy.gradual:
        return Transition(Action.PROMOTE, version, "the policy is to roll out at once")
    if state.champion == 0:
        return Transition(Action.PROMOTE, version, "there is no champion to compare it with")
    return Transition(Action.SHADOW, version, f"shadow of version {state.champion}")


def _proven_bad(policy: RollOut, evidence: StageEvidence) -> str:
    """Why it has to be taken back; empty while nothing says so."""
    if evidence.failed:
        return "; ".join(evidence.failed)
    low, high = evidence.interval
    if low > 0.0:
        return f"proven worse: {_seen(evidence)}"
    for name, (low, high) in sorted(evidence.slices.items()):
        if low > policy.harm:
            return f"proven harmful in {name}: loss {low:+.4f} to {high:+.4f}"
    return ""


def _proven_good(policy: RollOut, evidence: StageEvidence) -> bool:
    return evidence.labelled >= policy.least and evidence.interval[1] < policy.harm


def _onwards(policy: RollOut, state: LedgerState, evidence: StageEvidence) -> Transition | None:
    """The step after a stage that has lasted long enough."""
    if _proven_good(policy, evidence):
        return _forwards(policy, state, evidence)
    if state.stage is Stage.WATCH and state.waiting:
        reason = f"version {state.waiting} waits, and it is not proven worse: {_seen(evidence)}"
        return Transition(Action.SETTLE, state.challenger, reason, 1.0, _numbers(evidence))
    return None


def _least_seconds(policy: RollOut, state: LedgerState) -> int:
    return policy.every_seconds if state.stage is Stage.CANARY else policy.shadow_seconds


def _take_back(state: LedgerState, evidence: StageEvidence, reason: str) -> Transition:
    numbers = _numbers(evidence)
    if state.stage is Stage.WATCH:
        return Transition(Action.ROLLBACK, state.previous, reason, evidence=numbers)
    return Transition(Action.REJECT, state.challenger, reason, evidence=numbers)


def _freeze_or_thaw(policy: RollOut, state: LedgerState, silence: float) -> Transition | None:
    """What an operator froze, an operator thaws."""
    version, share = state.challenger, state.share
    if not state.frozen:
        reason = f"no feedback for {silence:.0f} s of event time, more than {policy.every}"
        return Transition(Action.FREEZE, version, reason, share)
    if state.frozen == _BY and silence <= policy.every_seconds:
        return Transition(Action.THAW, version, "feedback has come again", share)
    return None


def _forwards(policy: RollOut, state: LedgerState, evidence: StageEvidence) -> Transition:
    reason = f"proven harmless, below {policy.harm:+g}: {_seen(evidence)}"
    if state.stage is Stage.WATCH:
        action, share = Action.SETTLE, 1.0
    elif larger := [share for share in policy.canary if share > state.share]:
        action, share = Action.CANARY, larger[0]
    else:
        action, share = Action.PROMOTE, 1.0 - policy.holdout
    return Transition(action, state.challenger, reason, share, _numbers(evidence))


def _seen(evidence: StageEvidence) -> str:
    if not evidence.labelled:
        return "no label has come yet"
    low, high = evidence.interval
    return f"loss {low:+.4f} to {high:+.4f} after {evidence.labelled} labels"


def _numbers(evidence: StageEvidence) -> dict[str, float]:
    low, high = evidence.interval
    named = {"labelled": float(evidence.labelled), "low": low, "high": high}
    for name, (low, high) in evidence.slices.items():
        named |= {f"low[{name}]": low, f"high[{name}]": high}
    return named
