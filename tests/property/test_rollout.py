"""Controllers that die, come twice and come late write one ledger, whatever befalls them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.ledger.state import LedgerState, Stage, state_after
from streams.records import Action, LedgerEntry, decoder, encode
from streams.spec import RollOut
from tests.models import manifest
from tests.synthetic import pipeline
from workers.releases.rollout import StageEvidence, decide

POLICY = RollOut(shadow="2s", every="1s", canary=(0.05, 0.25), least=10)
MADE = {version: manifest(pipeline, version, b"", created_at=0.0) for version in range(1, 50)}
FIRST = LedgerEntry(Action.PROMOTE, 1, 0, 0.0, "first", "gate", 0.5, MADE[1])
_read = decoder(LedgerEntry).decode


@dataclass(frozen=True)
class Moment:
    """What the world shows at one second of event time."""

    interval: tuple[float, float]
    label_age: float
    failed: tuple[str, ...]
    candidate: bool

    def evidence(self, state: LedgerState, now: float) -> StageEvidence:
        labels, interval = int(now - state.since) * 10, self.interval
        latest = now - self.label_age
        return StageEvidence(
            state.challenger, state.since, labels, latest, interval, failed=self.failed
        )


MOMENTS = st.builds(
    Moment,
    st.sampled_from([(-0.01, 0.001)] * 6 + [(-0.1, 0.1), (0.001, 0.2)]),
    st.sampled_from([0.0] * 5 + [9.0]),
    st.sampled_from([()] * 9 + [("constant",)]),
    st.sampled_from([False] * 4 + [True]),
)
WORLDS = st.lists(MOMENTS, min_size=1, max_size=40)


@dataclass
class Ledger:
    """The topic: whatever anybody appended, in order."""

    entries: list[LedgerEntry] = field(default_factory=lambda: [FIRST])

    def append(self, entry: LedgerEntry) -> None:
        self.entries.append(_read(encode(entry)))

    @property
    def state(self) -> LedgerState:
        return state_after(self.entries)

    @property
    def counted(self) -> list[LedgerEntry]:
        """Those that changed what the ledger says."""
        state, found = LedgerState(), []
        for entry in self.entries:
            before, state = state, state.after(entry)
            found += [entry] if state.length > before.length else []
        return found

    def let_through(self, version: int, now: float) -> None:
        """The gate does so; it decides on nothing but its own slice."""
        made = MADE[version]
        self.append(
            LedgerEntry(
                Action.CANDIDATE, version, 0, now, "good", "gate", 0.5, made, event_time=now
            )
        )

    def decided(self, moment: Moment, now: float) -> LedgerEntry | None:
        """What a controller that has just been started and read the ledger would append."""
        state = self.state
        found = decide(POLICY, state, moment.evidence(state, now), now)
        return found.entry(state, now, now) if found else None


def undisturbed(world: list[Moment]) -> Ledger:
    """One controller that nothing happens to."""
    ledger = Ledger()
    for now, moment in enumerate(world, 1):
        if moment.candidate:
            ledger.let_through(now + 1, now)
        while entry := ledger.decided(moment, now):
            ledger.append(entry)
    return ledger


def disturbed(world: list[Moment], data: st.DataObject) -> Ledger:
    """Several: each may die before it appends or after, append twice, or wake up later."""
    ledger, asleep = Ledger(), list[LedgerEntry]()
    fates = st.sampled_from(["append", "die", "twice", "both", "sleep", "wake"])
    for now, moment in enumerate(world, 1):
        if moment.candidate:
            ledger.let_through(now + 1, now)
        while entry := ledger.decided(moment, now):
            match data.draw(fates):
                case "append":
                    ledger.append(entry)
                case "twice":
                    ledger.append(entry)
                    ledger.append(entry)
                case "both":
                    other = ledger.decided(moment, now)
                    assert other == entry
                    ledger.append(entry)
                    ledger.append(other)
                case "sleep":
                    asleep.append(entry)
                    ledger.append(entry)
                case "wake" if asleep:
                    ledger.append(asleep.pop(0))
                    ledger.append(entry)
    for entry in asleep:
        ledger.append(entry)
    return ledger


@settings(max_examples=300)
@given(WORLDS, st.data())
def test_whatever_befalls_the_controllers_the_ledger_says_the_same(
    world: list[Moment], data: st.DataObject
) -> None:
    expected, found = undisturbed(world), disturbed(world, data)
    assert found.counted == expected.counted
    assert found.state == expected.state


@settings(max_examples=300)
@given(WORLDS)
def test_no_version_skips_a_step_or_goes_on_after_its_end(world: list[Moment]) -> None:
    way: dict[int, list[tuple[Stage, float]]] = {}
    state = LedgerState()
    for entry in undisturbed(world).entries:
        state = state.after(entry)
        step = (state.stage, state.share)
        if state.challenger and step not in way.setdefault(state.challenger, []):
            way[state.challenger].append(step)
    whole = [
        (Stage.CANDIDATE, 0.0),
        (Stage.SHADOW, 0.0),
        (Stage.CANARY, 0.05),
        (Stage.CANARY, 0.25),
        (Stage.WATCH, 1.0),
    ]
    assert all(steps == whole[: len(steps)] for steps in way.values())


@settings(max_examples=300)
@given(WORLDS)
def test_nothing_that_was_proven_worse_or_failed_is_on_its_way_at_the_end(
    world: list[Moment],
) -> None:
    state = undisturbed(world).state
    if world[-1].interval[0] > 0.0 or world[-1].failed:
        assert state.stage is Stage.NONE
