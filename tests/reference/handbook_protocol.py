"""The Handbook's split of transactions into a training week and, a week later, a test week."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

WEEK = 7  # days of training, of delay and of test

Mask = NDArray[np.bool_]


def split(frame: pd.DataFrame, first_day: int) -> tuple[Mask, Mask]:
    """Masks [rows] of training, which starts on `first_day`, and test.

    A card leaves the test on the day a fraud of it is known: one of the training week, or one of
    the delay or test weeks that is eight days old. The published size of the test week counts what
    is left.
    """
    day, card = frame["day"].to_numpy(), frame["customer_id"].to_numpy()
    fraud = frame["is_fraud"].to_numpy() == 1
    train = (first_day <= day) & (day < first_day + WEEK)
    test = np.zeros(len(frame), bool)
    for today in range(first_day + 2 * WEEK, first_day + 3 * WEEK):
        known = card[fraud & (first_day <= day) & (day <= max(today - 8, first_day + WEEK - 1))]
        test |= (day == today) & ~np.isin(card, known)
    return train, test
