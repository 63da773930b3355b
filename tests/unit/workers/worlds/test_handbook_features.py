"""The two references agree, and follow a case that is worked out by hand."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from tests.reference.handbook_features import DAY, NAMES, fast_features, slow_features
from workers.worlds.card_fraud import World, simulate

HOUR = 3600


def transactions(rows: list[tuple[int, int, int, float, int]]) -> pd.DataFrame:
    """Rows of seconds since 2018-04-01 (a Sunday), customer, terminal, amount, fraud."""
    names = ["seconds", "customer_id", "terminal_id", "amount", "is_fraud"]
    frame = pd.DataFrame(rows, columns=names)
    start = np.datetime64("2018-04-01", "s")
    return frame.assign(tx_time=start + frame["seconds"].to_numpy().astype("timedelta64[s]"))


def test_fast_equals_slow_on_a_simulated_world() -> None:
    frame = simulate(World(customers=50, terminals=30, days=45, radius=25.0))
    assert frame.duplicated(["seconds"]).any()
    assert fast_features(frame) == pytest.approx(slow_features(frame), abs=1e-9)


def test_fast_equals_slow_where_times_tie_and_windows_touch() -> None:
    random = np.random.default_rng(1)
    size = 400
    rows = pd.DataFrame(
        {
            "seconds": np.sort(random.integers(0, 45, size)) * DAY,
            "customer_id": random.integers(0, 3, size),
            "terminal_id": random.integers(0, 3, size),
            "amount": random.integers(1, 9999, size) / 100,
            "is_fraud": random.integers(0, 2, size),
        }
    )
    frame = transactions([tuple(row) for row in rows.itertuples(index=False)])
    assert fast_features(frame) == pytest.approx(slow_features(frame), abs=1e-9)


@pytest.mark.parametrize("features", [slow_features, fast_features])
def test_windows_are_open_on_the_left(features: object) -> None:
    assert callable(features)
    week = 7 * DAY
    frame = transactions(
        [
            (0, 1, 5, 10.0, 1),
            (0, 1, 5, 30.0, 0),  # the same second: sees the row before it
            (DAY - 1, 1, 5, 50.0, 0),
            (DAY, 1, 5, 70.0, 0),  # the rows at 0 are just out of its day
            (week, 2, 5, 1.0, 0),  # the rows at 0 are just labelled
            (week + DAY, 2, 5, 1.0, 0),  # and just out of the labelled day
        ]
    )
    found = pd.DataFrame(features(frame), columns=list(NAMES))
    assert found["customer_count_1d"].tolist() == [1, 2, 3, 2, 1, 1]
    assert found["customer_mean_1d"].tolist() == [10, 20, 30, 60, 1, 1]
    assert found["customer_count_7d"].tolist() == [1, 2, 3, 4, 1, 2]
    assert found["terminal_count_1d"].tolist() == [0, 0, 0, 0, 2, 2]
    assert found["terminal_rate_1d"].tolist() == [0, 0, 0, 0, 0.5, 0]
    assert found["terminal_rate_7d"].tolist() == [0, 0, 0, 0, 0.5, 0.25]


@pytest.mark.parametrize("features", [slow_features, fast_features])
def test_nights_and_weekends(features: object) -> None:
    assert callable(features)
    assert date(2018, 4, 1).weekday() == 6
    times = [0, 7 * HOUR - 1, 7 * HOUR, DAY - 1, DAY, 5 * DAY, 6 * DAY]
    found = features(transactions([(time, 1, 1, 1.0, 0) for time in times]))
    assert found[:, 1].tolist() == [1, 1, 1, 1, 0, 0, 1]
    assert found[:, 2].tolist() == [1, 1, 0, 0, 1, 1, 1]
