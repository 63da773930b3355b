"""The Fraud Detection Handbook's 15 features of transactions, computed apart from the product.

A frame is in table order: by time, and within one second by transaction id. Windows hold:

- customer: (t - w, t], the transaction itself included. Of a customer's transactions within the
  same second, each window holds those earlier in the table: as in a stream, later ones are not
  known yet.
- terminal: (t - 7 days - w, t - 7 days], when labels are known; all of those are earlier rows.

`slow_features` follows the words above row by row; `fast_features` must equal it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DAY = 86_400
DELAY = 7 * DAY
WINDOWS = (1, 7, 30)  # days
NAMES = (
    "amount",
    "is_weekend",
    "is_night",
    *(f"customer_{what}_{days}d" for days in WINDOWS for what in ("count", "mean")),
    *(f"terminal_{what}_{days}d" for days in WINDOWS for what in ("count", "rate")),
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def slow_features(frame: pd.DataFrame) -> Floats:
    """Features [rows, 15]; every window is a mask over all earlier rows."""
    seconds = frame["seconds"].to_numpy()
    customers = frame["customer_id"].to_numpy()
    terminals = frame["terminal_id"].to_numpy()
    amounts = frame["amount"].to_numpy()
    frauds = frame["is_fraud"].to_numpy()
    rows = []
    for row, moment in enumerate(frame["tx_time"]):
        now = seconds[row]
        known = np.arange(len(frame)) <= row
        features = [amounts[row], float(moment.weekday() >= 5), float(moment.hour <= 6)]
        for days in WINDOWS:
            recent = known & (seconds > now - days * DAY)
            features += count_and_mean(amounts[recent & (customers == customers[row])])
        for days in WINDOWS:
            labelled = (seconds > now - DELAY - days * DAY) & (seconds <= now - DELAY)
            features += count_and_mean(frauds[labelled & (terminals == terminals[row])])
        rows.append(features)
    return np.array(rows, np.float64).reshape(len(frame), len(NAMES))


def count_and_mean(values: NDArray[np.number]) -> list[float]:
    return [len(values), float(np.mean(values)) if len(values) else 0.0]


def fast_features(frame: pd.DataFrame) -> Floats:
    """The same, from running sums over each customer and each terminal."""
    seconds = frame["seconds"].to_numpy(np.int64)
    cents = np.rint(frame["amount"].to_numpy() * 100).astype(np.int64)
    frauds = frame["is_fraud"].to_numpy(np.int64)
    when = frame["tx_time"].dt
    columns = [frame["amount"], when.day_of_week >= 5, when.hour <= 6]
    customers = Windows(frame["customer_id"].to_numpy(np.int64), seconds, cents)
    for days in WINDOWS:
        count, mean = customers.until_row(days * DAY)
        columns += [count, mean / 100]
    terminals = Windows(frame["terminal_id"].to_numpy(np.int64), seconds, frauds)
    for days in WINDOWS:
        columns += terminals.until_delay(days * DAY)
    return np.column_stack(columns).astype(np.float64)


class Windows:
    """Counts and means over windows of time in each group; arrays [rows], integer values."""

    def __init__(self, group: Ints, seconds: Ints, values: Ints) -> None:
        self._order = np.lexsort((seconds, group))  # stable: ties keep their table order
        # one number that ascends over groups and, within one, over time; no window reaches across
        self._key = (group * 4 * (int(seconds.max(initial=0)) + 40 * DAY) + seconds)[self._order]
        self._sums = np.concatenate([[0], np.cumsum(values[self._order])])

    def until_row(self, length: int) -> tuple[Floats, Floats]:
        """Over (t - length, t], as far as the row itself."""
        start = np.searchsorted(self._key, self._key - length, side="right")
        return self._between(start, np.arange(1, len(self._key) + 1))

    def until_delay(self, length: int) -> tuple[Floats, Floats]:
        """Over (t - DELAY - length, t - DELAY]."""
        start = np.searchsorted(self._key, self._key - DELAY - length, side="right")
        return self._between(start, np.searchsorted(self._key, self._key - DELAY, side="right"))

    def _between(self, start: Ints, end: Ints) -> tuple[Floats, Floats]:
        count, mean = np.zeros(len(start)), np.zeros(len(start))
        count[self._order] = end - start
        total = self._sums[end] - self._sums[start]
        mean[self._order] = total / np.maximum(end - start, 1)
        return count, mean
