"""What the roll-out does with equal and with harmful challengers, as Markdown.

    python -m tests.bench.rollout

Both versions see the same events and err on the logit, partly together, partly each by itself. A
twin errs as much as the champion; a harmful challenger errs more by itself, so that its mean loss,
with the classes balanced, is higher by the harm. A day has 1,000 labelled events, one in four of
class 1, and there is one look a day. The policy is `RollOut()`, its defaults. At the end the same
with rare classes: 10,000 events a day, one in a hundred of class 1.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from streams.ledger.state import LedgerState, Stage
from streams.records import Action
from streams.spec import RollOut
from workers.evaluation.sequential import Balance, ConfidenceSequence
from workers.releases.rollout import StageEvidence, decide

POLICY = RollOut()
RUNS, DAYS, A_DAY = 500, 200, 1000
FEW = 60
"""Runs with a rare class."""
LOOKS = 60
"""Of the rival."""
DAY = 86_400.0
COMMON, ERROR = 0.4, 0.3
"""Standard deviations of the errors on the logit: of both, and of each by itself."""
START = LedgerState(champion=1, challenger=2, stage=Stage.CANDIDATE)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Where labelled events come from, and how two models err on them."""

    events: int
    """A day."""
    offset: float
    """Mean of the true logits."""
    share: float
    """Of class 1, as the manifest of a version that was trained here would say."""

    @property
    def balance(self) -> Balance:
        return Balance.of([1.0 - self.share, self.share])

    def day(self, random: np.random.Generator, error: float, events: int = 0) -> Floats:
        """Challenger's loss minus champion's on the events of a day, [events]."""
        logit, common, *errors = random.standard_normal((4, events or self.events))
        logit = 1.5 * logit + self.offset
        shown = logit + COMMON * common
        labels = (random.random(len(logit)) < _sigmoid(logit)).astype(np.float32)
        champion, challenger = (
            self.balance.losses(_sigmoid(shown + scale * noise), labels)
            for scale, noise in zip((ERROR, error), errors, strict=True)
        )
        return challenger - champion

    def errors_for(self, harms: Floats) -> Floats:
        """The error on the logit with which the mean loss is higher by so much. [n]."""
        grid = np.linspace(ERROR, 3.0, 40)
        losses = [
            float(self.day(np.random.default_rng(0), error, 400_000).mean()) / self.balance.unit
            for error in grid
        ]
        return np.interp(harms, np.maximum.accumulate(losses), grid)


COMMON_CLASS = World(A_DAY, -1.5, 0.2545)
RARE_CLASS = World(10_000, -5.5, 0.0104)


def _sigmoid(logit: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-logit))


@dataclass
class End:
    """How one roll-out ended."""

    champion: bool
    """Whether the challenger was promoted."""
    action: Action | None
    """The last one; None while it is still on its way."""
    labelled: int
    """Labelled events from the begin, or from when harm began, to the end."""


def rolled_out(
    error: float, seed: int, begins: Stage = Stage.SHADOW, world: World = COMMON_CLASS
) -> End:
    """One challenger through the policy; one that is harmful is so from stage `begins` on."""
    random, state, unit = np.random.default_rng(seed), START, world.balance.unit
    sequence, promoted, counted, harmful = _fresh(), False, 0, begins is Stage.SHADOW
    for day in range(DAYS):
        now = day * DAY
        if state.stage is not Stage.CANDIDATE:
            harmful |= state.stage is begins
            counted += world.events * harmful
            sequence = sequence.update(world.day(random, error if harmful else ERROR))
        low, high = sequence.interval
        interval = max(-1.0, low / unit), min(1.0, high / unit)
        evidence = StageEvidence(2, state.since, sequence.count, now, interval)
        if (found := decide(POLICY, state, evidence, now)) is None:
            continue
        promoted |= found.action is Action.PROMOTE
        state, sequence = state.after(found.entry(state, now, now)), _fresh()
        if state.stage is Stage.NONE:
            return End(promoted, found.action, counted)
    return End(promoted, None, counted)


def _fresh() -> ConfidenceSequence:
    return ConfidenceSequence(POLICY.step_confidence())


def thrown_out_by_plain_intervals(seed: int) -> bool:
    """Whether a twin is ever below 0 by a plain 95 % interval, looked at after each of 60 days."""
    random, count, total, squares = np.random.default_rng(seed), 0, 0.0, 0.0
    for _ in range(LOOKS):
        found = COMMON_CLASS.day(random, ERROR)
        count, total, squares = count + A_DAY, total + found.sum(), squares + (found**2).sum()
        mean = total / count
        if mean > 1.96 * np.sqrt((squares / count - mean**2) / count):
            return True
    return False


def _row(name: str, ends: Sequence[End]) -> str:
    gone = [end for end in ends if end.action in (Action.REJECT, Action.ROLLBACK)]
    settled = [end for end in ends if end.action is Action.SETTLE]
    decided = [end.labelled for end in (*gone, *settled)]
    numbers = [
        f"{len(ends)}",
        f"{sum(end.champion for end in ends)}",
        f"{len(gone)}",
        f"{len(settled)}",
        f"{len(ends) - len(decided)}",
        f"{median(decided):,.0f}" if decided else "-",
        f"{max(decided):,}" if decided else "-",
    ]
    return f"| {name} | " + " | ".join(numbers) + " |"


def main() -> None:
    """Print the tables."""
    begun = time.monotonic()
    print("| Challengers | runs | champion | taken back | settled | open | median | most |")
    print("|---|---|---|---|---|---|---|---|")
    print(_row("twins", [rolled_out(ERROR, seed) for seed in range(RUNS)]))
    bounds = [POLICY.harm, 0.02, 0.05]
    harms = np.geomspace(bounds[0], bounds[-1], RUNS)
    errors = COMMON_CLASS.errors_for(harms)
    begins = [(Stage.SHADOW, "live"), (Stage.CANARY, "serving")]
    ends = [
        rolled_out(error, 10_000 + number, begins[number % 2][0])
        for number, error in enumerate(errors)
    ]
    print(_row("harmful, all", ends))
    for place, (_, name) in enumerate(begins):
        print(_row(f"harmful once {name}", ends[place::2]))
    for least, most in pairwise(bounds):
        inside = (harms >= least) & (harms <= most)
        print(_row(f"harm {least:g} to {most:g}", [ends[i] for i in np.flatnonzero(inside)]))
    late = [rolled_out(error, 20_000 + n, Stage.WATCH) for n, error in enumerate(errors[::5])]
    print(_row("harmful once champion", late))
    rare = RARE_CLASS.errors_for(np.geomspace(0.02, 0.05, FEW))
    print(_row("twins, rare class", [rolled_out(ERROR, n, world=RARE_CLASS) for n in range(FEW)]))
    ends = [rolled_out(error, 30_000 + n, world=RARE_CLASS) for n, error in enumerate(rare)]
    print(_row("harmful by .02 to .05, rare class", ends))
    plain = sum(thrown_out_by_plain_intervals(seed) for seed in range(RUNS))
    print(f"\nTwins that plain 95 % intervals throw out in {LOOKS} looks: {plain} of {RUNS}")
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
