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


class RankSums(msgspec.Struct, omit_defaults=True):
    """What orders of candidates come to, of requests that have a label above 0."""

    requests: int = 0
    ndcg: float = 0.0
    reciprocal: float = 0.0
    """1 / place of the first candidate with a label above 0."""
    hits: int = 0
    """Requests with such a candidate among the first places that count."""


class Cell(msgspec.Struct, omit_defaults=True):
    """`P.metrics`: what matured events say of the version that served them.

    A cell is a bucket of event time, a version, an arm and a slice; its record's key names them. A
    partition has cells of its own, and a later record of a cell replaces the earlier one. All are
    sums: cells add up, over partitions and over time.
    """

    start: float
    """Event time from which its events are, seconds since 1970."""
    span: float
    """For so many seconds."""
    version: int
    """0 for the fallback."""
    arm: str
    """As in `Prediction`; `fallback` of what the fallback answered."""
    slice: str
    """As the pipeline declares it; empty for all events."""
    next: int = 0
    """Examples of its partition below this offset are counted."""
    events: int = 0
    fed_back: int = 0
    """Events whose label had come as feedback when they matured."""
    delay: float = 0.0
    """Seconds from these events to their labels, summed."""
    confusion: list[list[int]] = []
    """[label][decision] -> events."""
    squared_error: float = 0.0
    """Summed: (score - label)², or the squared distance of the scores to the label's one-hot
    vector."""
    log_loss: float = 0.0
    """Summed: -log of the probability that the label's class was given, at least 1e-12."""
    histograms: dict[int, Histogram] = {}
    """By class: of its scores."""
    calibration: list[list[float]] = []
    """Of one score: tenths of its range -> [events, of class 1, scores summed]."""
    top: dict[str, tuple[float, int]] = {}
    """Of one score: the keys with the highest scores -> the highest, and events of class 1."""
    errors: ErrorSums | None = None
    """Of a value, which has none of the sums from `confusion` on but the squared error."""
    ranks: RankSums | None = None
    """Of a ranking, which has none of the sums from `confusion` on."""
