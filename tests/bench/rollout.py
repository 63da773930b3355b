"""What the roll-out does with equal and with harmful challengers, as Markdown.

    python -m tests.bench.rollout

Both versions see the same events and err on the logit, partly together, partly each by itself. A
twin errs as much as the champion; a harmful challenger errs more by itself, so that its mean Brier
loss is higher by the harm. A day
has 1,000 labelled events, and there is one look a day. The policy is `RollOut()`, its defaults.
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
from workers.evaluation.sequential import ConfidenceSequence, brier
from workers.releases.rollout import StageEvidence, decide

POLICY = RollOut()
RUNS, DAYS, A_DAY = 500, 200, 1000
LOOKS = 60
"""Of the rival."""
DAY = 86_400.0
COMMON, ERROR = 0.4, 0.3
"""Standard deviations of the errors on the logit: of both, and of each by itself."""
START = LedgerState(champion=1, challenger=2, stage=Stage.CANDIDATE)

Floats = NDArray[np.float64]


class World:
    """Labelled events and two models' losses on them; seeded."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def day(self, error: float, events: int = A_DAY) -> Floats:
        """Challenger's loss minus champion's on the events of a day, [events]."""
        logit, common, *errors = self._random.standard_normal((4, events))
        logit = 1.5 * logit - 1.5
        shown = logit + COMMON * common
        labels = (self._random.random(events) < _sigmoid(logit)).astype(np.float32)
        champion, challenger = (
            brier(_sigmoid(shown + scale * noise), labels)
            for scale, noise in zip((ERROR, error), errors, strict=True)
        )
        return challenger - champion


def _sigmoid(logit: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-logit))


def errors_for(harms: Floats) -> Floats:
    """The error on the logit with which the mean loss is higher by so much. [n]."""
    grid = np.linspace(ERROR, 2.0, 60)
    losses = [float(World(0).day(error, 400_000).mean()) for error in grid]
    return np.interp(harms, np.maximum.accumulate(losses), grid)


@dataclass
class End:
    """How one roll-out ended."""

    champion: bool
    """Whether the challenger was promoted."""
    action: Action | None
    """The last one; None while it is still on its way."""
    labelled: int
    """Labelled events from the begin, or from when harm began, to the end."""


def rolled_out(error: float, seed: int, begins: Stage = Stage.SHADOW) -> End:
    """One challenger through the policy; one that is harmful is so from stage `begins` on."""
    world, state = World(seed), START
    sequence, promoted, counted, harmful = _fresh(), False, 0, begins is Stage.SHADOW
    for day in range(DAYS):
        now = day * DAY
        if state.stage is not Stage.CANDIDATE:
            harmful |= state.stage is begins
            counted += A_DAY * harmful
            sequence = sequence.update(world.day(error if harmful else ERROR))
        evidence = StageEvidence(2, state.since, sequence.count, now, sequence.interval)
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
    world, count, total, squares = World(seed), 0, 0.0, 0.0
    for _ in range(LOOKS):
        found = world.day(ERROR)
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
    bounds = [0.002, 0.005, 0.01, 0.02, 0.05]
    harms = np.geomspace(bounds[0], bounds[-1], RUNS)
    errors = errors_for(harms)
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
    plain = sum(thrown_out_by_plain_intervals(seed) for seed in range(RUNS))
    print(f"\nTwins that plain 95 % intervals throw out in {LOOKS} looks: {plain} of {RUNS}")
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
