"""What gate and roll-out do with predicted numbers, and what training gets right, as Markdown.

    python -m tests.bench.values

The world is that of `tests/amounts.py`: noise of the labels grows with a feature, and its calmest
and wildest tenth are at least 3.6 times apart. Models of gate and roll-out are the truth with an
error of their own, as a share of the noise; a twin errs as much as the champion. The gate is
`Gate()` by each metric, a first look, windows of 1,000 examples. The roll-out is `RollOut()`, with
1,000 labelled events and one look a day. Training is the small network of that file on 4,000
examples, beside scikit-learn's gradient-boosted quantiles on the same; both are held against 50,000
examples that neither has seen.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from streams.ledger.state import LedgerState, Stage
from streams.records import Action
from streams.spec import Gate, RollOut
from streams.spec.tasks import Task
from tests import amounts
from tests.synthetic import DAY, START
from workers.evaluation.case import Case, Contender
from workers.evaluation.gate import decide as judge
from workers.evaluation.sequential import ConfidenceSequence
from workers.evaluation.values import LOSS_BOUND, BoundedLosses, constant, loss_bound, measured
from workers.examples.reading import columns
from workers.releases.onnx_files import run, session
from workers.releases.rollout import StageEvidence, decide
from workers.training.fit import train
from workers.training.slices import slices_at

TASK = Task("value", 1 + len(amounts.QUANTILES), amounts.QUANTILES)
WINDOWS, RUNS, DAYS, A_DAY = 100, 100, 200, 1000
ERROR = 0.5
"""A champion's own error, as a share of the noise."""
POLICY = RollOut()
Floats = NDArray[np.float64]


def scores(random: np.random.Generator, vectors: Any, error: float) -> Any:
    """What a model with this error says, [n, 1 + quantiles]."""
    middle, spread = amounts.truth(vectors.astype(np.float64))
    wide = spread * np.sqrt(1 + error**2)
    said = middle + spread * error * random.normal(size=len(vectors))
    return np.column_stack([said, *(said + z * wide for z in amounts.TRUE)]).astype(np.float32)


def worse(by: float) -> float:
    """The own error whose total error is larger than a champion's by this share."""
    return float(np.sqrt((1 + ERROR**2) * (1 + by) ** 2 - 1))


def gate() -> None:
    """What becomes of candidates that are so much worse."""
    print(f"\n| Candidate, {WINDOWS} windows | metric | promoted | rejected | left open |")
    print("|---|---|---|---|---|")
    for by in (-0.1, 0.0, 0.05, 0.1, 0.2):
        for metric in TASK.metrics:
            found = Counter(_judged(metric, worse(by), seed) for seed in range(WINDOWS))
            shares = [found[one] for one in (Action.PROMOTE, Action.REJECT, Action.INCONCLUSIVE)]
            print(f"| error {by:+.0%} | {metric} | {' | '.join(map(str, shares))} |")


def _judged(metric: Any, error: float, seed: int) -> Action:
    random = np.random.default_rng(seed)
    vectors, labels = amounts.drawn(1000, seed)
    wanted = labels.astype(np.float32)
    ours, theirs = (scores(random, vectors, one) for one in (error, ERROR))
    same = constant(metric, amounts.drawn(4000, seed + 1)[1].astype(np.float32), TASK.quantiles)
    case = Case(wanted, Contender(0, ours), Contender(1, theirs), task=TASK, constant=same)
    return judge(Gate(metric=metric), case, seed=seed).action


@dataclass
class End:
    """How a roll-out ended."""

    action: Action | None
    labelled: int


def rolled_out(error: float, seed: int) -> End:
    """One challenger through the policy."""
    random, state, sequence, counted = np.random.default_rng(seed), _begin(), _fresh(), 0
    vectors, labels = amounts.drawn(1000, seed)
    bound = loss_bound(TASK, scores(random, vectors, ERROR), labels.astype(np.float32))
    loss = BoundedLosses(bound[LOSS_BOUND], TASK.quantiles)
    for day in range(DAYS):
        if state.stage is not Stage.CANDIDATE:
            counted += A_DAY
            sequence = sequence.update(_day(random, loss, error))
        evidence = StageEvidence(2, state.since, sequence.count, day * DAY, sequence.interval)
        if (found := decide(POLICY, state, evidence, day * DAY)) is None:
            continue
        state, sequence = state.after(found.entry(state, day * DAY, day * DAY)), _fresh()
        if state.stage is Stage.NONE:
            return End(found.action, counted)
    return End(None, counted)


def _begin() -> LedgerState:
    return LedgerState(champion=1, challenger=2, stage=Stage.CANDIDATE)


def _fresh() -> ConfidenceSequence:
    return ConfidenceSequence(POLICY.step_confidence())


def _day(random: np.random.Generator, loss: BoundedLosses, error: float) -> Floats:
    """The challenger's loss minus the champion's, [events]."""
    vectors, labels = amounts.drawn(A_DAY, int(random.integers(1 << 31)))
    wanted = labels.astype(np.float32)
    ours, theirs = (scores(random, vectors, one) for one in (error, ERROR))
    return loss.losses(ours, wanted) - loss.losses(theirs, wanted)


def rollout() -> None:
    """What becomes of challengers that are so much worse."""
    print(f"\n| Challenger, {RUNS} runs | taken back | settled | open | median labels | most |")
    print("|---|---|---|---|---|---|")
    for by in (0.0, 0.05, 0.1, 0.2):
        ends = [rolled_out(worse(by), seed) for seed in range(RUNS)]
        gone = sum(end.action in (Action.REJECT, Action.ROLLBACK) for end in ends)
        settled = sum(end.action is Action.SETTLE for end in ends)
        labels = [end.labelled for end in ends]
        print(
            f"| error {by:+.0%} | {gone} | {settled} | {RUNS - gone - settled} "
            f"| {np.median(labels):,.0f} | {max(labels):,} |"
        )


def training() -> None:
    """Coverage and pinball loss of the trained network, of boosted trees, and of the truth."""
    print("\n| Model | coverage of .05, .5, .95 | pinball, over the truth's | seconds |")
    print("|---|---|---|---|")
    vectors, labels = amounts.drawn(50_000, seed=999)
    wanted = labels.astype(np.float32)
    middle, spread = amounts.truth(vectors.astype(np.float64))
    exact = np.column_stack([middle, *(middle + z * spread for z in amounts.TRUE)])
    truth = measured(TASK, exact, wanted)
    rivals: dict[str, Callable[[int], Any]] = {"trained here": _network, "boosted trees": _trees}
    for name, made in rivals.items():
        rows, took = [], []
        for seed in range(5):
            begun = time.monotonic()
            predict = made(seed)
            took.append(time.monotonic() - begun)
            rows.append(measured(TASK, predict(vectors), wanted))
        covered = [np.mean([row[f"below_{q:g}"] for row in rows]) for q in amounts.QUANTILES]
        loss = np.mean([row["pinball"] for row in rows]) / truth["pinball"]
        shown = ", ".join(f"{one:.3f}" for one in covered)
        print(f"| {name}, mean of 5 | {shown} | {loss:.3f} | {np.mean(took):.1f} |")


def _network(seed: int) -> Callable[[Any], Any]:
    pipeline = amounts.pipeline
    examples = columns(amounts.made(6, per_day=1000, seed=seed), pipeline)
    slices = slices_at(pipeline.policies.retrain, START + 6 * DAY)
    loaded = session(train(pipeline, examples, slices).onnx)
    return lambda vectors: run(loaded, vectors)


def _trees(seed: int) -> Callable[[Any], Any]:
    # of six days the network trains on four, the fifth stops it early, the sixth is the gate's
    vectors, labels = (one[:4000] for one in amounts.drawn(6000, seed))
    fitted = [
        HistGradientBoostingRegressor(loss="quantile", quantile=q).fit(vectors, labels)
        for q in amounts.QUANTILES
    ]

    def predict(rows: Any) -> Any:
        ends = np.sort(np.column_stack([one.predict(rows) for one in fitted]), axis=1)
        return np.column_stack([ends[:, 1], ends])

    return predict


def main() -> None:
    """Print the tables."""
    begun = time.monotonic()
    training()
    gate()
    rollout()
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
