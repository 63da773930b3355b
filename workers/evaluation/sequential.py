"""Sequential evidence: is a challenger worse than the champion, looked at as often as one likes?

An interval of one look errs more and more often when it is looked at again and again. A confidence
sequence holds at all times at once: it may be looked at after every event, and acted upon.

What it is fed are paired differences: the challenger's loss minus the champion's on the same
labelled event, each loss in [0, 1]. Feed events whose horizon has passed, in the order of their own
time. In the order in which labels arrive, frauds come before the honest events of the same day, and
the mean is of something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.evaluation.metrics import Labels, Scores

Losses = NDArray[np.float64]
"""[n] in [0, 1]."""

_LARGEST_BET = 0.75
"""The largest weight of one observation; the source suggests 1/2 or 3/4."""


class ConfidenceSequence(msgspec.Struct, frozen=True):
    """The mean of differences in [-1, 1], as an interval that holds at all times at once.

    The predictable plug-in empirical Bernstein confidence sequence: Waudby-Smith and Ramdas,
    "Estimating means of bounded random variables by betting", JRSS B 86 (2024), theorem 2, with
    x = (1 + difference) / 2. Given what came before, each difference has to have the mean in
    question; if that changes, the interval is about the weighted average of the means so far.

    A state is six numbers and can be kept in a record. What a state gives after more differences
    does not depend on how they are cut into batches, to the last bit.
    """

    confidence: float
    """Probability that all of the intervals hold the mean."""
    count: int = 0
    """Differences so far."""
    total: float = 0.0
    """Sum of x."""
    squares: float = 0.0
    """Sum of (x - mean by then)^2."""
    bets: float = 0.0
    """Sum of the weights."""
    weighted: float = 0.0
    """Sum of weight times x."""
    spread: float = 0.0
    """Sum of the observations' part in the interval's width."""

    def update(self, differences: NDArray[np.floating[Any]]) -> ConfidenceSequence:
        """The state after more differences, [n] in [-1, 1].

        Raises:
            ValueError: one is outside, or NaN.
        """
        if not len(differences):
            return self
        if not (np.abs(differences) <= 1.0).all():
            raise ValueError("a difference is not in [-1, 1]: each loss has to be in [0, 1]")
        x = (1.0 + np.asarray(differences, np.float64)) / 2.0
        t = self.count + 1.0 + np.arange(len(x))
        total = _running(self.total, x)
        mean, before = (0.5 + total[1:]) / (t + 1.0), (0.5 + total[:-1]) / t
        squares = _running(self.squares, (x - mean) ** 2)
        variance = (0.25 + squares[:-1]) / t
        bet = np.sqrt(2.0 * self._log_error / (variance * t * np.log1p(t)))
        bet = np.minimum(bet, _LARGEST_BET)
        part = (x - before) ** 2 * (-np.log1p(-bet) - bet)
        return msgspec.structs.replace(
            self,
            count=self.count + len(x),
            total=float(total[-1]),
            squares=float(squares[-1]),
            bets=float(_running(self.bets, bet)[-1]),
            weighted=float(_running(self.weighted, bet * x)[-1]),
            spread=float(_running(self.spread, part)[-1]),
        )

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end for the mean difference; (-1, 1) before the first."""
        if not self.count:
            return -1.0, 1.0
        centre, radius = self.weighted / self.bets, (self._log_error + self.spread) / self.bets
        return max(-1.0, 2 * (centre - radius) - 1), min(1.0, 2 * (centre + radius) - 1)

    @property
    def mean(self) -> float:
        """The plain mean of the differences; 0 before the first."""
        return 2.0 * self.total / self.count - 1.0 if self.count else 0.0

    @property
    def _log_error(self) -> float:
        return float(np.log(2.0 / (1.0 - self.confidence)))


def _running(start: float, steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """`start` and the sums after each step, [n + 1]: added one after the other, never in pairs."""
    return np.cumsum(np.concatenate([[start], steps]))


def brier(scores: Scores, labels: Labels) -> Losses:
    """The squared error of one score; half the squared distance to the label of several. [n].

    Args:
        scores: Probabilities, [n] or [n, outputs].
        labels: Class indices, [n].
    """
    scores = np.asarray(scores, np.float64).reshape(len(labels), -1)
    if scores.shape[1] == 1:
        return np.asarray((scores[:, 0] - labels) ** 2, np.float64)
    hot = np.eye(scores.shape[1])[labels.astype(np.int64)]
    return np.asarray(((scores - hot) ** 2).sum(axis=1) / 2.0, np.float64)


def cost(
    decided: NDArray[np.integer[Any]], labels: Labels, costs: Sequence[Sequence[float]]
) -> Losses:
    """What each decision cost, over the largest cost. [n].

    Args:
        decided: Class indices as decided at the version's own threshold, [n].
        labels: Class indices, [n].
        costs: What it costs to decide the column's class where the row's is right; none negative.
    """
    matrix = np.asarray(costs, np.float64)
    found: Losses = matrix[labels.astype(np.int64), decided] / matrix.max()
    return found


class ClassWeights(msgspec.Struct, frozen=True):
    """Weights by class under which a rare class counts as much as a frequent one.

    The rarest class has weight 1, so that weighted losses stay in [0, 1]. With the prevalence they
    were made from, the mean of weighted losses is `unit` times the mean over the classes of each
    class's mean loss; divide an interval by `unit` to read it so. Where the prevalence has changed
    since, a class counts more by as much as it has become more frequent. A rare class makes `unit`
    small, and intervals so read wide: they rest on the few events of that class.
    """

    by_class: tuple[float, ...]
    """In (0, 1]."""
    unit: float
    """Number of classes times the rarest one's prevalence."""

    @classmethod
    def of(cls, prevalence: Sequence[float]) -> ClassWeights:
        """From the share of each class, as in the champion's manifest.

        Raises:
            ValueError: a class has no share.
        """
        rarest = min(prevalence)
        if not rarest > 0.0:
            raise ValueError(f"a class without examples has no weight: {list(prevalence)}")
        return cls(tuple(rarest / share for share in prevalence), len(prevalence) * rarest)

    def weigh(self, losses: Losses, labels: Labels) -> Losses:
        """Each loss times the weight of its label's class. [n]."""
        found: Losses = losses * np.array(self.by_class)[labels.astype(np.int64)]
        return found


def fold(
    differences: NDArray[np.float64], entities: Sequence[str], days: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The mean difference of each entity and day, by day, within it by name. [entities x days].

    A confidence sequence asks that a difference cannot be foretold from those before it. Events of
    one entity on one day often can: a card that is stolen pays many times, and both models see the
    same history. Fold where an entity has more than a few events a day; the mean is then one over
    entities and days, in which an entity with many events counts once. What an entity's days have
    in common remains. Give whole days only: a day that is fed in two parts counts twice.

    Args:
        differences: [n]
        entities: [n]
        days: [n] whole days of event time.
    """
    names, entity = np.unique(np.asarray(entities), return_inverse=True)
    _, pair = np.unique(days * max(1, len(names)) + entity, return_inverse=True)
    return np.asarray(np.bincount(pair, differences) / np.bincount(pair), np.float64)
