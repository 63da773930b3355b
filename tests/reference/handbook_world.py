"""The published world drawn one call at a time, as its description says: the simulator's oracle."""

from __future__ import annotations

import random
from datetime import date, timedelta

import numpy as np
import pandas as pd

COLUMNS = ["tx_time", "customer_id", "terminal_id", "amount", "day", "seconds"]


def slow_world(
    customers: int, terminals: int, days: int, radius: float, first_seed: int = 0
) -> pd.DataFrame:
    """The frame of `workers.simulator.simulate`, without dtypes; seeds count from `first_seed`."""
    np.random.seed(first_seed)
    people = [[np.random.uniform(*span) for span in SPANS] for _ in range(customers)]
    np.random.seed(first_seed + 1)
    places = [(np.random.uniform(0, 100), np.random.uniform(0, 100)) for _ in range(terminals)]
    rows: list[tuple[object, ...]] = []
    for number, (x, y, mean, rate) in enumerate(people):
        near = [at for at, (tx, ty) in enumerate(places) if np.hypot(x - tx, y - ty) < radius]
        random.seed(first_seed + number)
        np.random.seed(first_seed + number)
        rows += payments(number, near, mean, rate, days)
    frame = pd.DataFrame(rows, columns=COLUMNS).sort_values("tx_time").reset_index(drop=True)
    frame.insert(0, "transaction_id", frame.index)
    return with_frauds(frame, customers, terminals, first_seed)


SPANS = [(0, 100), (0, 100), (5, 100), (0, 4)]  # x, y, mean amount, payments a day
START = np.datetime64(date(2018, 4, 1), "ns")


def payments(
    customer: int, near: list[int], mean: float, rate: float, days: int
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for day in range(days):
        for _ in range(np.random.poisson(rate)):
            time = int(np.random.normal(43_200, 20_000))
            if not 0 < time < 86_400:
                continue
            amount = np.random.normal(mean, mean / 2)
            if amount < 0:
                amount = np.random.uniform(0, 2 * mean)
            if near:
                seconds = time + 86_400 * day
                at = START + np.timedelta64(timedelta(seconds=seconds))
                amount = np.round(amount, decimals=2)
                rows.append((at, customer, random.choice(near), amount, day, seconds))
    return rows


def with_frauds(
    frame: pd.DataFrame, customers: int, terminals: int, first_seed: int
) -> pd.DataFrame:
    frame["scenario"] = 0
    frame.loc[frame["amount"] > 220, "scenario"] = 1
    days = range(int(frame["day"].max()))
    for day in days:
        hacked = pd.Series(range(terminals)).sample(n=2, random_state=first_seed + day)
        period = frame["day"].between(day, day + 27)
        frame.loc[period & frame["terminal_id"].isin(hacked), "scenario"] = 2
    for day in days:
        stolen = pd.Series(range(customers)).sample(n=3, random_state=first_seed + day)
        period = frame["day"].between(day, day + 13)
        paid = list(frame.index[period & frame["customer_id"].isin(stolen)])
        random.seed(first_seed + day)
        taken = random.sample(paid, k=int(len(paid) / 3))
        frame.loc[taken, "amount"] *= 5
        frame.loc[taken, "scenario"] = 3
    frame["amount"] = frame["amount"].round(2)
    frame["is_fraud"] = (frame["scenario"] > 0).astype(int)
    return frame
