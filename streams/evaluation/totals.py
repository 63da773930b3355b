"""Quality: what cells of `P.metrics` say, added up over partitions and over time.

Average precision and AUC come from histograms of the scores. Scores of one bin cannot be told
apart: the metrics are those that are expected of any order of them, within 1e-3 of the scores' own.
All others are exact. What the measures of a value are is said in `streams.evaluation.errors`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.evaluation.cells import STEPS, widths
from streams.evaluation.errors import error_measures, together
from streams.evaluation.ranks import both, rank_measures
from streams.sums import Cell, ErrorSums, Histogram, RankSums

_NAN = float("nan")
Costs = Sequence[Sequence[float]]
"""[label][decision] -> what the decision costs."""


@dataclass
class Total:
    """Cells that were added up."""

    events: int = 0
    fed_back: int = 0
    delay: float = 0.0
    squared_error: float = 0.0
    log_loss: float = 0.0
    confusion: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    """[labels, decisions]"""
    rankings: dict[int, Ranking] = field(default_factory=dict)
    """By class: its events and others by score."""
    calibration: NDArray[np.float64] = field(default_factory=lambda: np.zeros((10, 3)))
    """[tenths, (events, of class 1, scores summed)]"""
    errors: ErrorSums | None = None
    """Of a value."""
    ranks: RankSums | None = None
    """Of a ranking."""

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> Total:
        """The sum of cells of one number of classes."""
        total, histograms = cls(), defaultdict[int, list[Histogram]](list)
        for cell in cells:
            total._add(cell)
            for one, histogram in cell.histograms.items():
                histograms[one].append(histogram)
        total.rankings = {one: Ranking.of(found) for one, found in sorted(histograms.items())}
        return total

    def _add(self, cell: Cell) -> None:
        self.events += cell.events
        self.fed_back += cell.fed_back
        self.delay += cell.delay
        self.squared_error += cell.squared_error
        self.log_loss += cell.log_loss
        if cell.errors is not None:
            self.errors = together(self.errors or ErrorSums(), cell.errors)
            return
        if cell.ranks is not None:
            self.ranks = both(self.ranks or RankSums(), cell.ranks)
            return
        confusion = np.array(cell.confusion, np.int64)
        if confusion.shape != self.confusion.shape and not self.confusion.any():
            self.confusion = np.zeros_like(confusion)
        self.confusion = self.confusion + confusion
        if cell.calibration:
            self.calibration = self.calibration + np.array(cell.calibration)

    def measures(self, costs: Costs = ()) -> dict[str, float]:
        """Metrics by name; those that are not defined are left out.

        Precision, recall and F1 are of class 1; of several classes, the mean over the classes that
        have events (macro), as are average precision and AUC, each class against the rest.
        `calibration_error` is the mean difference of score and frequency over tenths of the score
        (ECE, Naeini et al., 2015), `bias` the mean score over the share of class 1. `cost` is what
        the decisions cost, a mean over events; it is there where costs are declared.
        """
        if not self.events:
            return {}
        found = {
            "coverage": self.fed_back / self.events,
            "label_delay": self.delay / self.fed_back if self.fed_back else _NAN,
        }
        if self.errors is not None:
            found |= error_measures(self.errors, self.squared_error, self.events)
        elif self.ranks is not None:
            found |= rank_measures(self.ranks, self.events)
        else:
            found |= self._classified(costs)
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def _classified(self, costs: Costs) -> dict[str, float]:
        found = {
            "accuracy": float(np.trace(self.confusion)) / self.events,
            "brier": self.squared_error / self.events,
            "log_loss": self.log_loss / self.events,
        }
        found |= self._decided() | self._ranked()
        if len(self.confusion) == 2:
            found |= self._calibrated()
        if np.shape(costs) == self.confusion.shape:
            found["cost"] = float((self.confusion * np.array(costs)).sum()) / self.events
        return found

    def _decided(self) -> dict[str, float]:
        hits = np.diag(self.confusion).astype(np.float64)
        labelled = self.confusion.sum(axis=1).astype(np.float64)
        decided = self.confusion.sum(axis=0).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            # where nothing is decided for a class, none of its decisions is right
            precision = np.where(decided > 0, hits / decided, 0.0)
            recall, f1 = hits / labelled, 2 * hits / (labelled + decided)
        classes = [1] if len(hits) == 2 else np.flatnonzero(labelled)
        share = {"prevalence": labelled[1] / self.events, "alerts": decided[1] / self.events}
        macro = {"precision": precision, "recall": recall, "f1": f1}
        named = {name: float(np.mean(values[classes])) for name, values in macro.items()}
        return named | share if len(hits) == 2 else named

    def _ranked(self) -> dict[str, float]:
        mixed = [one for one in self.rankings.values() if one.mixed]
        if not mixed:
            return {}
        return {
            "average_precision": float(np.mean([one.average_precision() for one in mixed])),
            "roc_auc": float(np.mean([one.roc_auc() for one in mixed])),
        }

    def _calibrated(self) -> dict[str, float]:
        _, positives, scores = self.calibration.T
        error = np.abs(scores - positives).sum() / self.events
        bias = scores.sum() / positives.sum() if positives.sum() else _NAN
        return {"calibration_error": float(error), "bias": float(bias)}


class Ranking(NamedTuple):
    """Events of one class and of all others, by bin of the score, highest first; each [bins]."""

    middles: NDArray[np.float64]
    """Places, as in `Histogram`."""
    others: NDArray[np.int64]
    positives: NDArray[np.int64]

    @classmethod
    def of(cls, histograms: Iterable[Histogram]) -> Ranking:
        """The sum of histograms of one class."""
        places, counts = [np.empty(0)], [np.empty((0, 2), np.int64)]
        for one in histograms:
            bins = np.fromiter(one.bins, np.int64, len(one.bins))
            places.append(bins + widths(bins, one.coarse) / 2)
            counts.append(np.array([*one.bins.values()], np.int64).reshape(-1, 2))
        middles, of_bin = np.unique(np.concatenate(places), return_inverse=True)
        summed = np.zeros((len(middles), 2), np.int64)
        np.add.at(summed, of_bin, np.concatenate(counts))
        summed = summed[::-1]
        return cls(middles[::-1], summed[:, 0], summed[:, 1])

    @property
    def scores(self) -> NDArray[np.float64]:
        """The score in the middle of each bin, in log-odds: [bins], falling."""
        return self.middles / STEPS

    @property
    def mixed(self) -> bool:
        """Whether there are events of the class and others, so that it can be ranked."""
        return bool(self.others.any() and self.positives.any())

    def average_precision(self) -> float:
        """The mean precision at the positives.

        The i-th of a bin's p positives, among n events in any order, is expected at place
        i (n + 1) / (p + 1).
        """
        positives, events = self.positives, self.positives + self.others
        of_bin = np.repeat(np.arange(len(events)), positives)
        before = np.cumsum(positives) - positives
        number = np.arange(len(of_bin)) - before[of_bin] + 1
        place = number * (events[of_bin] + 1) / (positives[of_bin] + 1)
        above = (np.cumsum(events) - events)[of_bin]
        return float(np.mean((before[of_bin] + number) / (above + place)))

    def roc_auc(self) -> float:
        """Chance that a positive scores above another, equal ones half."""
        above = np.cumsum(self.positives) - self.positives / 2
        return float(self.others @ above / (self.others.sum() * self.positives.sum()))


def top_precision(cells: Sequence[Cell], top: int) -> float:
    """The share of keys with an event of class 1 among the `top` with the highest scores.

    Cells of one bucket, of all partitions. NaN where no keys were kept.
    """
    keys = [(-score, key, hits > 0) for cell in cells for key, (score, hits) in cell.top.items()]
    chosen = sorted(keys)[:top]
    return sum(hit for *_, hit in chosen) / len(chosen) if chosen else _NAN


def mean_top_precision(cells: Iterable[Cell], top: int) -> dict[str, float]:
    """`top_precision` as the mean over buckets; empty where no keys were kept."""
    buckets = defaultdict[float, list[Cell]](list)
    for cell in cells:
        buckets[cell.start].append(cell)
    found = np.array([top_precision(one, top) for one in buckets.values()])
    found = found[np.isfinite(found)]
    return {"top_precision": float(found.mean())} if len(found) else {}
