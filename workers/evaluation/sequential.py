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

_SLOPES = 0.9 / 2.0 ** np.arange(10)
"""The lambdas that are mixed; the widest interval is off their best by a few per cent, from no
variance at all to that of millions of events."""
_PRICES = -np.log1p(-_SLOPES) - _SLOPES
_NEWTON_STEPS = 8


class ConfidenceSequence(msgspec.Struct, frozen=True):
    """The mean of differences in [-1, 1], as an interval that holds at all times at once.

    An empirical Bernstein bound: for each lambda in (0, 1) the exponential of

        lambda * sum(d - mean of d given the past) - (-log(1 - lambda) - lambda) * sum(d^2)

    is a supermartingale that begins at 1 (Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform,
    nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49, 2021, theorem 4,
    predicting each difference as 0). So is the mean of several (their section 3.2), which exceeds
    2 / (1 - confidence) at no time but with half the probability of error (Ville); the other half
    is that of -d. The interval is about the average of the means so far, given the past, constant
    or not.

    A state is four numbers and can be kept in a record. What a state gives after more differences
    does not depend on how they are cut into batches, to the last bit.
    """

    confidence: float
    """Probability that all of the intervals hold the mean."""
    count: int = 0
    """Differences so far."""
    total: float = 0.0
    """Their sum."""
    squares: float = 0.0
    """Sum of their squares."""

    def update(self, differences: NDArray[np.floating[Any]]) -> ConfidenceSequence:
        """The state after more differences, [n] in [-1, 1].

        Raises:
            ValueError: one is outside, or NaN.
        """
        if not (np.abs(differences) <= 1.0).all():
            raise ValueError("a difference is not in [-1, 1]: each loss has to be in [0, 1]")
        found = np.asarray(differences, np.float64)
        return ConfidenceSequence(
            self.confidence,
            self.count + len(found),
            _sum(self.total, found),
            _sum(self.squares, found**2),
        )

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end for the mean difference; (-1, 1) before the first."""
        if not self.count:
            return -1.0, 1.0
        radius = self._bound() / self.count
        return max(-1.0, self.mean - radius), min(1.0, self.mean + radius)

    @property
    def mean(self) -> float:
        """The mean of the differences; 0 before the first."""
        return self.total / self.count if self.count else 0.0

    def _bound(self) -> float:
        """How far the sum can be from that of the means: where the mean of exponentials is 2/error.

        Its logarithm is convex, so Newton's steps from above never pass below the root. They begin
        where one of the exponentials is so large by itself.
        """
        level, price = np.log(2.0 / (1.0 - self.confidence)), _PRICES * self.squares
        bound = ((level + np.log(len(_SLOPES)) + price) / _SLOPES).min()
        for _ in range(_NEWTON_STEPS):
            exponents = _SLOPES * bound - price
            parts = np.exp(exponents - exponents.max())
            above = exponents.max() + np.log(parts.mean()) - level
            bound -= above * parts.sum() / (parts @ _SLOPES)
        return float(bound)


def _sum(start: float, steps: NDArray[np.float64]) -> float:
    """`start` and the steps, added one after the other: numpy's own sum adds in pairs."""
    return float(np.cumsum(np.concatenate([[start], steps]))[-1])


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


class Balance(msgspec.Struct, frozen=True):
    """Losses under which a rare class counts as much as a frequent one.

    A rare class hides in the plain mean: with one fraud in a hundred, a version that finds none of
    them has a squared error of .01. Here scores are moved to equal frequencies of the classes, by
    dividing each class's probability by its share (Saerens, Latinne and Decaestecker, "Adjusting
    the outputs of a classifier to new a priori probabilities", Neural Computation 14, 2002), and
    each event is weighted by 1 over its class's share. The mean loss is least where the scores are
    right, as without either: both change the same odds.

    The rarest class has weight 1, so that losses stay in [0, 1]. The mean is `unit` times the mean
    over the classes of each class's mean loss; divide an interval by `unit` to read it so. A rare
    class makes `unit` small, and intervals so read wide: they rest on the few events of that class.
    """

    shares: tuple[float, ...]
    """Of each class, above 0."""

    @classmethod
    def of(cls, shares: Sequence[float]) -> Balance:
        """From the share of each class, as in a manifest.

        Raises:
            ValueError: a class has no share.
        """
        if not min(shares) > 0.0:
            raise ValueError(f"a class without examples has no weight: {list(shares)}")
        return cls(tuple(shares))

    @property
    def unit(self) -> float:
        """Number of classes times the rarest one's share; 1 where all are equally frequent."""
        return len(self.shares) * min(self.shares)

    def losses(self, scores: Scores, labels: Labels) -> Losses:
        """Weighted Brier losses of the moved scores, [n].

        Args:
            scores: Probabilities, [n] or [n, outputs].
            labels: Class indices, [n].
        """
        shares = np.array(self.shares)
        found = np.asarray(scores, np.float64).reshape(len(labels), -1)
        if found.shape[1] == 1:
            found = np.concatenate([1.0 - found, found], axis=1)
        moved = found / shares
        moved /= moved.sum(axis=1, keepdims=True)
        weights = shares.min() / shares
        weighed: Losses = brier(moved, labels) * weights[labels.astype(np.int64)]
        return weighed
