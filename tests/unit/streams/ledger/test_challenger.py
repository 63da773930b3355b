"""Which versions the ledger says are compared, and which events had a part in making them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from streams.ledger.challenger import LedgerChallenger
from streams.ledger.state import LedgerState, state_after
from streams.ledger.topic import new_entry
from streams.records import Action, LedgerEntry, Manifest
from tests.models import manifest
from tests.unit.pipelines import declare

PIPELINE = declare()


def made(version: int, slices: dict[str, list[float]] | None = None, **changes: Any) -> Manifest:
    return manifest(PIPELINE, version, b"", slices=slices or {}, **changes)


def entry(action: Action, given: Manifest, at: float = 0.0) -> LedgerEntry:
    return replace(new_entry(action, given, LedgerState(), "by a test"), event_time=at)


def shadow(given: Manifest, at: float = 0.0) -> list[LedgerEntry]:
    return [entry(action, given, at) for action in (Action.CANDIDATE, Action.SHADOW)]


def challenger(*entries: LedgerEntry) -> LedgerChallenger:
    state = state_after(entries)
    return LedgerChallenger(PIPELINE, lambda: state)


def test_without_a_challenger_or_a_champion_nothing_is_compared() -> None:
    assert challenger().version == 0
    assert challenger(entry(Action.PROMOTE, made(1))).version == 0
    assert challenger(*shadow(made(2))).version == 0


def test_a_shadow_is_compared_with_the_champion_until_another_serves() -> None:
    first, second = made(1), made(2)
    entries = [entry(Action.PROMOTE, first), *shadow(second, 500.0)]
    found = challenger(*entries)
    assert (found.version, found.champion, found.since) == (2, 1, 500.0)
    assert challenger(*entries, entry(Action.PROMOTE, second)).version == 0


def test_a_candidate_is_compared_once_it_is_in_the_shadow() -> None:
    waits = [entry(Action.PROMOTE, made(1)), entry(Action.CANDIDATE, made(2))]
    assert challenger(*waits).version == 0
    assert challenger(*waits, entry(Action.SHADOW, made(2))).version == 2


def test_versions_of_other_features_are_not_compared() -> None:
    ours, other = made(1), made(2, schema_hash="other", columns={})
    for champion, rival in ((ours, other), (other, ours)):
        found = challenger(entry(Action.PROMOTE, champion), *shadow(rival))
        assert found.version == 0


def test_events_of_either_versions_slices_are_seen() -> None:
    early = made(1, {"train": [0, 10], "evaluate": [10, 20]})
    late = made(2, {"train": [5, 30], "validate": [30, 40]})
    for champion, rival in ((early, late), (late, early)):
        found = challenger(entry(Action.PROMOTE, champion), *shadow(rival))
        assert found.unseen == 40
