"""Sums that quality is computed from, as the cells of `P.metrics` hold them."""

from __future__ import annotations

import msgspec


class Histogram(msgspec.Struct, omit_defaults=True):
    """Scores of one class, in bins that are finest where scores are high.

    A bin is named by its least place; a place is the log-odds of a score in steps of 1/4096, from
    -16 to 16. Below each of the `coarse` places bins are twice as wide, and 512 places at most.
    """

    bins: dict[int, list[int]] = {}
    """Bin -> events [of other classes, of the class]."""
    coarse: list[int] = []


class QuantileSums(msgspec.Struct, omit_defaults=True):
    """What one predicted quantile comes to."""

    events: int = 0
    covered: int = 0
    """Events whose label is not above it."""
    pinball: float = 0.0
    """Its pinball losses, in the label's unit."""


class ErrorSums(msgspec.Struct, omit_defaults=True):
    """Errors of a value's points, which are point minus label, and what its quantiles come to."""

    absolute: float = 0.0
    signed: float = 0.0
    labels: float = 0.0
    """The labels' sizes, |label|."""
    quantiles: dict[float, QuantileSums] = {}
    """By quantile."""
