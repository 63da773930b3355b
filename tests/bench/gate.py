"""What the gate lets through: bad candidates, equal ones, and many that are each a little worse.

    python -m tests.bench.gate [--only bad equal creep]

Scores come from logistic regressions on the Handbook's world, with 1,000 customers and 2,000
terminals. The gate before this one stands beside it: a percentile interval, and promotion wherever
its lower end is at least -margin. All tables are Markdown; the same seeds give the same tables.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.ledger.state import LedgerState, state_after
from streams.records import Action, LedgerEntry, Manifest
from streams.spec import Gate
from tests.reference.handbook_features import fast_features
from tests.synthetic import pipeline
from workers.evaluation.case import Case, Contender
from workers.evaluation.gate import GateDecision, decide
from workers.evaluation.history import apart, history
from workers.evaluation.metrics import metric, point
from workers.evaluation.resampling import resampled
from workers.worlds.card_fraud import World, simulate

Floats = NDArray[np.float64]
TRAIN, LATER, WINDOW = (50, 64), 71, 3
"""Days of training, the first day whose frauds are judged on, and days of a window."""
CREEP, GATES, SEEDS, FRAUDS = 0.005, 20, 30, 200
AP = "average_precision"


class Slice(NamedTuple):
    """Features [n, 15], labels [n] and the model's logits [n]."""

    x: Floats
    y: Floats
    logit: Floats


class Model(NamedTuple):
    """A logistic regression."""

    mean: Floats
    scale: Floats
    weight: Floats
    """[features + 1], the last one is the intercept."""

    def logit(self, x: Floats) -> Floats:
        found: Floats = ((x - self.mean) / self.scale) @ self.weight[:-1] + self.weight[-1]
        return found


def fitted(x: Floats, y: Floats) -> Model:
    """Newton's steps, none longer than 1, with the ridge that scikit-learn has by default."""
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    rows = np.column_stack([(x - mean) / scale, np.ones(len(x))])
    weight = np.zeros(rows.shape[1])
    weight[-1] = np.log((y.mean() + 1e-6) / (1 - y.mean()))
    for _ in range(30):
        p = chance(rows @ weight)
        slope = rows.T @ (y - p) - weight
        curve = (rows * (p * (1 - p))[:, None]).T @ rows + np.eye(len(weight))
        step = np.linalg.solve(curve, slope)
        weight = weight + step * min(1.0, 1 / np.abs(step).max())  # far from the end it overshoots
    return Model(mean, scale, weight)


def chance(logit: Floats) -> Floats:
    """The probability of a logit."""
    found: Floats = 1 / (1 + np.exp(-np.clip(logit, -30, 30)))
    return found


def best_f1(scores: Floats, y: Floats) -> float:
    """The threshold with the best F1."""
    order = np.argsort(-scores)
    hits = np.cumsum(y[order])
    return float(scores[order][np.argmax(hits / (np.arange(len(y)) + 1 + y.sum()))])


def old_gate(y: Floats, candidate: Floats, champion: Floats, margin: float, seed: int) -> Action:
    """The gate as it was until this one, without its floor for a first version."""
    labels = y.astype(np.float32)
    pair = [metric(AP, one, labels) for one in (candidate, champion)]
    drawn = resampled(pair, labels, 500, seed)
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], [0.05, 0.95])
    if low >= -margin:
        return Action.PROMOTE
    return Action.REJECT if high < 0 else Action.INCONCLUSIVE


class Bench:
    """The world, its champion, and the windows after it."""

    def __init__(self) -> None:
        frame = simulate(World(customers=1000, terminals=2000, days=113, radius=7.0))
        self._day = frame["day"].to_numpy()
        self._x, self._y = fast_features(frame), frame["is_fraud"].to_numpy(np.float64)
        self.train = self.days(*TRAIN)
        self.champion = fitted(self.train.x, self.train.y)
        self.validate = self.days(TRAIN[1], TRAIN[1] + 3, self.champion)
        self.threshold = best_f1(chance(self.validate.logit), self.validate.y)
        self.later = self.days(LATER, 113, self.champion)

    def days(self, first: int, after: int, model: Model | None = None) -> Slice:
        rows = (self._day >= first) & (self._day < after)
        x = self._x[rows]
        return Slice(x, self._y[rows], np.zeros(len(x)) if model is None else model.logit(x))

    def window(self, number: int) -> Slice:
        first = LATER + WINDOW * (number % 14)
        return self.days(first, first + WINDOW, self.champion)


def bad_candidates(
    bench: Bench, random: np.random.Generator
) -> Iterator[tuple[str, Floats, Slice, float]]:
    """Kind, scores on a window, the window, and the threshold from the validation slice."""
    number = 0

    def judged(
        kind: str, model: Model, factor: Floats | float = 1.0, sign: float = 1.0
    ) -> tuple[str, Floats, Slice, float]:
        nonlocal number
        number += 1
        window = bench.window(number)
        validation = chance(sign * model.logit(bench.validate.x * factor))
        threshold = best_f1(validation, bench.validate.y)
        return kind, chance(sign * model.logit(window.x * factor)), window, threshold

    x, y = bench.train.x, bench.train.y
    for share in np.linspace(0.02, 0.3, 12):
        noisy = np.where(random.random(len(y)) < share, 1 - y, y)
        yield judged("label noise, 2 to 30 % flipped", fitted(x, noisy))
    for _ in range(12):
        yield judged("shuffled labels", fitted(x, random.permutation(y)))
    for _ in range(12):
        factor = np.where(random.random(15) < 0.5, 1.0, random.choice([0.01, 100.0], 15))
        factor[0] = random.choice([0.01, 100.0])  # the amount, for one: dollars for cents
        yield judged("wrong scaling", bench.champion, factor)
    for _ in range(10):
        yield judged("inverted", bench.champion, sign=-1.0)
    for hours in np.linspace(1, 6, 12):
        rows = slice(first := int(random.integers(0, len(y) // 2)), first + int(hours * 79))
        yield judged("tiny window, 1 to 6 hours", fitted(x[rows], y[rows]))
    for level in np.linspace(0, 1, 12):
        number += 1
        window = bench.window(number)
        name = "all zero" if level == 0 else "constant"
        yield name, np.full(len(window.y), level), window, level
    for loss in np.repeat([0.01, 0.02, 0.03, 0.04, 0.05], 6):
        number += 1
        window = bench.window(number)
        yield (
            f"proven worse by {loss:.2f}",
            chance(proven_worse(window, float(loss), random)),
            window,
            bench.threshold,
        )


def proven_worse(window: Slice, loss: float, random: np.random.Generator) -> Floats:
    """The champion's logits, blind to some frauds: the loss is this, its 90 % interval below 0."""
    labels = window.y.astype(np.float32)
    base, before = metric(AP, window.logit, labels), point(AP, window.logit, labels)
    for _ in range(200):
        worse, lost = window.logit.copy(), 0.0
        for fraud in random.permutation(np.flatnonzero(window.y)):
            worse[fraud] -= 8.0
            lost = before - point(AP, worse, labels)
            if lost > loss - 0.001:
                break
        if lost < loss + 0.002:
            drawn = resampled([metric(AP, worse, labels), base], labels, 500, 1)
            if np.quantile(drawn[:, 0] - drawn[:, 1], 0.95) < 0:
                return worse
    raise RuntimeError(f"no candidate that is proven to lose {loss}")


def bad(bench: Bench) -> None:
    """(a) Bad candidates against a good champion."""
    random = np.random.default_rng(1)
    verdicts: dict[str, Counter[str]] = {}
    before: dict[str, Counter[str]] = {}
    for number, (kind, scores, window, threshold) in enumerate(bad_candidates(bench, random)):
        labels = window.y.astype(np.float32)
        champion = Contender(1, chance(window.logit), bench.threshold)
        case = Case(labels, Contender(0, scores, threshold), champion, validation=200)
        found = decide(Gate(), case, seed=number)
        said = found.action.value + (
            "" if found.action == "promote" else f": {found.rules[0].name}"
        )
        verdicts.setdefault(kind, Counter())[said] += 1
        was = old_gate(window.y, scores, chance(window.logit), 0.05, number)
        before.setdefault(kind, Counter())[was.value] += 1
    print("\n| Bad candidates | n | Promoted before | Promoted now | By which rule they fell now |")
    print("|---|---|---|---|---|")
    for kind, counted in verdicts.items():
        fell = ", ".join(f"{n} {said}" for said, n in counted.most_common() if said != "promote")
        print(
            f"| {kind} | {counted.total()} | {before[kind]['promote']} "
            f"| {counted['promote']} | {fell} |"
        )
    total = sum(one.total() for one in verdicts.values())
    promoted = [sum(one["promote"] for one in gate.values()) for gate in (before, verdicts)]
    print(f"| all | {total} | {promoted[0]} | {promoted[1]} | |")


class Draws:
    """Windows of a given number of frauds, and models of a given loss on them."""

    def __init__(self, bench: Bench, negatives: int) -> None:
        later = bench.later
        self._frauds, self._genuine = np.flatnonzero(later.y), np.flatnonzero(later.y == 0)
        self._logit, self._negatives = later.logit, negatives

    def window(self, frauds: int, random: np.random.Generator) -> tuple[Floats, Floats]:
        """Labels and the champion's logits of a window of its own, [n] each."""
        rows = [
            random.choice(self._frauds, frauds, replace=frauds > len(self._frauds)),
            random.choice(self._genuine, frauds * self._negatives),
        ]
        return np.repeat([1.0, 0.0], [len(one) for one in rows]), self._logit[np.concatenate(rows)]

    def noise_of_loss(self, first: float, losses: NDArray[Any]) -> Floats:
        """The noise on logits that loses this much average precision against `first`."""
        random = np.random.default_rng(3)
        levels = np.linspace(first, 6, 60)
        y, logit = self.window(4000, random)
        labels, noise = y.astype(np.float32), random.normal(size=len(y))
        ap = np.array([point(AP, logit + level * noise, labels) for level in levels])
        print(f"\nAverage precision of the first champion: {ap[0]:.3f}.")
        found: Floats = np.interp(losses, np.maximum.accumulate(ap[0] - ap), levels)
        return found


def equal(bench: Bench, repeats: int = 40) -> None:
    """(b) Candidates as good as the champion: the same scores, each with noise of its own."""
    draws = Draws(bench, 20)
    print(
        "\n| Noise on logits | Frauds | SE of the gain "
        "| Before, margin .02: promoted | rejected | left open "
        "| Now: promoted | rejected | left open |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for noise, frauds in product((0.7, 1.5), (25, 50, 100, 200, 400)):
        before, now, errors = Counter[Action](), Counter[Action](), list[float]()
        for seed in range(repeats if frauds < 400 else repeats // 2):
            random = np.random.default_rng([frauds, seed])
            y, logit = draws.window(frauds, random)
            ours, theirs = (chance(logit + noise * random.normal(size=len(y))) for _ in "ab")
            before[old_gate(y, ours, theirs, 0.02, seed)] += 1
            found = judged_plainly(y, ours, theirs, seed)
            now[found.action] += 1
            errors.append(found.evidence.champion.gain.error)
        total = before.total()
        shares = [
            f"{counted[action] / total:.0%}"
            for counted in (before, now)
            for action in (Action.PROMOTE, Action.REJECT, Action.INCONCLUSIVE)
        ]
        cells = [f"{noise:g}", str(frauds), f"{np.mean(errors):.3f}", *shares]
        print(f"| {' | '.join(cells)} |", flush=True)


RANKING = Gate(alerts=1e9, calibration=1e9)
"""What is measured is the ranking: noise on logits has no calibration."""


def judged_plainly(y: Floats, ours: Floats, theirs: Floats, seed: int) -> GateDecision:
    """A first look at a candidate."""
    case = Case(y.astype(np.float32), Contender(0, ours), Contender(1, theirs))
    return decide(RANKING, case, seed=seed)


def creep(bench: Bench) -> None:
    """(c) Twenty candidates, each a little worse than the champion of its moment."""
    draws, first = Draws(bench, 4), 0.5
    noise = draws.noise_of_loss(first, CREEP * np.arange(GATES + 1))
    print("\n| Creep over 20 gates, 30 seeds | Mean loss | Largest loss | Promoted on average |")
    print("|---|---|---|---|")
    for name, losses in (
        ("before, margin .02", [crept_before(draws, noise, seed) for seed in range(SEEDS)]),
        ("now, margin 5 %", [crept(draws, noise, seed) for seed in range(SEEDS)]),
    ):
        lost = CREEP * np.array(losses)
        print(
            f"| {name} | {np.mean(lost):.4f} | {np.max(lost):.4f} | "
            f"{np.mean(losses):.1f} of {GATES} |"
        )


def crept_before(draws: Draws, noise: Floats, seed: int) -> int:
    """Steps that the old gate went down."""
    random, step = np.random.default_rng([9, seed]), 0
    for gate in range(GATES):
        y, logit = draws.window(FRAUDS, random)
        ours, theirs = (
            chance(logit + noise[at] * random.normal(size=len(y))) for at in (step + 1, step)
        )
        step += old_gate(y, ours, theirs, 0.02, gate) == Action.PROMOTE
    return step


def crept(draws: Draws, noise: Floats, seed: int) -> int:
    """Steps that the gate goes down, with the ledger as its only memory."""
    random = np.random.default_rng([9, seed])
    entries = [_entry(1, Action.PROMOTE, 0, {})]
    steps = {1: 0}
    for gate in range(GATES):
        now = state_after(entries)
        told = history(now, AP, pipeline)
        y, logit = draws.window(FRAUDS, random)
        version, step = gate + 2, steps[now.champion] + 1
        scores = {
            one: chance(logit + noise[steps.get(one, step)] * random.normal(size=len(y)))
            for one in {version, now.champion, told.anchor}
        }
        champion = Contender(now.champion, scores[now.champion])
        anchor = Contender(told.anchor, scores[told.anchor])
        told = msgspec.structs.replace(told, run=tuple(apart(told.run, float(gate))))
        case = Case(
            y.astype(np.float32), Contender(0, scores[version]), champion, anchor, earlier=told
        )
        found = decide(RANKING, case, seed=gate)
        steps[version] = step
        entries.append(_entry(version, found.action, now.champion, found.as_metrics(), gate))
    return steps[_champion(entries)]


def _champion(entries: list[LedgerEntry]) -> int:
    state: LedgerState = state_after(entries)
    return state.champion


def _entry(
    version: int, action: Action, parent: int, metrics: dict[str, float], gate: int = -1
) -> LedgerEntry:
    manifest = Manifest(
        pipeline="bench",
        version=version,
        parent=parent,
        offsets={},
        label_watermark=float(gate),
        slices={"evaluate": [float(gate), gate + 1.0]},
        counts={},
        schema_hash=pipeline.schema_hash,
        feature_names=[],
        seed=0,
        parameters={},
        code="",
        environment={},
        normalisation={},
        threshold=0.5,
        metrics=metrics,
        model_sha256="",
        created_at=0.0,
    )
    return LedgerEntry(action, version, parent, 0.0, "", "gate", 0.5, manifest)


def main() -> None:
    """Print the tables."""
    asked = argparse.ArgumentParser(description=__doc__)
    parts = {"bad": bad, "equal": equal, "creep": creep}
    asked.add_argument("--only", nargs="+", choices=list(parts), default=list(parts))
    bench = Bench()
    for name in asked.parse_args().only:
        parts[name](bench)
        print(f"\nProcessor seconds so far: {time.process_time():.0f}.", flush=True)


if __name__ == "__main__":
    main()
