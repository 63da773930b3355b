"""A number with its standard error: its interval, and several of them pooled into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_LEAST_ERROR = 1e-6
"""Manifests keep six digits: an error below this is as good as none, and weights stay finite."""


@dataclass(frozen=True)
class Estimate:
    """An estimate, taken to be normal."""

    value: float
    error: float
    """Its standard error, in the unit of the value."""

    def low(self, z: float) -> float:
        """The lower end of its interval, z standard errors down."""
        return self.value - z * self.error

    def high(self, z: float) -> float:
        """The upper end of its interval."""
        return self.value + z * self.error


UNKNOWN = Estimate(math.nan, math.nan)


def deviations(error: float) -> float:
    """Standard errors on either side of an interval that misses with this chance, in (0, 1)."""
    return NormalDist().inv_cdf(1 - error / 2)


def share_of_look(error: float, look: int) -> float:
    """What the look of this number (from 1 on) may spend of an allowed chance of error.

    error / (look (look + 1)): these add up to `error` over any number of looks, so that looking
    again and again does not find by luck what is not there (Bonferroni, with unequal shares).
    """
    return error / (look * (look + 1))


def pooled(estimates: Sequence[Estimate]) -> Estimate:
    """One estimate of several independent ones of the same thing, weighted by inverse variance.

    Where they disagree by more than their errors allow, the error is scaled up by
    sqrt(chi² / (n - 1)) (Birge, The Calculation of Errors by the Method of Least Squares, 1932).
    """
    if len(estimates) == 1:
        return estimates[0]
    weights = [max(one.error, _LEAST_ERROR) ** -2 for one in estimates]
    total = sum(weights)
    mean = sum(w * one.value for w, one in zip(weights, estimates, strict=True)) / total
    squares = sum(w * (one.value - mean) ** 2 for w, one in zip(weights, estimates, strict=True))
    scale = max(1.0, math.sqrt(squares / (len(estimates) - 1)))
    return Estimate(mean, scale / math.sqrt(total))
