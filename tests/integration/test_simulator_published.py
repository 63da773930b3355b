"""The default world is the Fraud Detection Handbook's published one."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

from tests.reference.handbook_protocol import split
from workers.worlds.card_fraud import World, simulate
from workers.worlds.card_fraud.frauds import LARGE, commit_frauds, hacked_terminals, stolen_cards
from workers.worlds.card_fraud.handbook import pay, table
from workers.worlds.card_fraud.world import Payments

WORLD = World()


@pytest.fixture(scope="module")
def payments() -> Payments:
    return pay(WORLD)


@pytest.fixture(scope="module")
def frame(payments: Payments) -> pd.DataFrame:
    cents, scenario = commit_frauds(WORLD, payments)
    return table(WORLD, payments._replace(cents=cents), scenario)


def size(frame: pd.DataFrame) -> tuple[int, int]:
    """Transactions and frauds."""
    return len(frame), int(frame["is_fraud"].sum())


def between(frame: pd.DataFrame, first: str, last: str) -> pd.DataFrame:
    """The transactions of some days, both included."""
    day = frame["tx_time"].dt.floor("D")
    days: pd.DataFrame = frame[(day >= first) & (day <= last)]
    return days


def test_the_totals(frame: pd.DataFrame) -> None:
    assert size(frame) == (1_754_155, 14_681)


def test_each_scenario_adds_the_published_number_of_frauds(payments: Payments) -> None:
    """Published are the transactions that a scenario makes fraudulent and none before it did.

    The scenario column, where the last one that applies stands, counts 973, 9,077 and 4,631.
    """
    fraud = payments.cents > LARGE
    totals = [int(fraud.sum())]
    for scenario in (hacked_terminals, stolen_cards):
        for rows in scenario(WORLD, payments):
            fraud[rows] = True
        totals.append(int(fraud.sum()))
    assert np.diff(totals, prepend=0).tolist() == [978, 9_099, 4_604]


def test_the_scenario_column_holds_the_last_that_applies(frame: pd.DataFrame) -> None:
    counts = frame["scenario"].value_counts().sort_index().tolist()
    assert counts == [1_754_155 - 14_681, 973, 9_077, 4_631]


def test_the_published_periods(frame: pd.DataFrame) -> None:
    assert size(between(frame, "2018-07-25", "2018-07-31")) == (67_240, 598)
    assert size(between(frame, "2018-06-11", "2018-09-14")) == (919_767, 8_195)


def test_the_published_test_week_leaves_out_cards_known_by_then(frame: pd.DataFrame) -> None:
    assert size(between(frame, "2018-08-08", "2018-08-14")) == (67_080, 568)
    _, test = split(frame, first_day=115)
    assert size(frame[test]) == (58_264, 385)


def test_the_first_and_last_rows(frame: pd.DataFrame) -> None:
    names = ["tx_time", "customer_id", "terminal_id", "amount"]
    rows = frame[names].iloc[[0, 1, -2, -1]].astype(str).to_numpy().tolist()
    assert rows == [
        ["2018-04-01 00:00:31", "596", "3156", "57.16"],
        ["2018-04-01 00:02:10", "4961", "3412", "81.51"],
        ["2018-09-30 23:59:52", "4056", "3067", "55.4"],
        ["2018-09-30 23:59:57", "3542", "9849", "23.59"],
    ]


def test_no_row_differs_from_one_drawn_call_by_call(frame: pd.DataFrame) -> None:
    """The digest is that of `slow_world(5000, 10_000, 183, 5.0)`, which takes a minute.

    It covers the order within a second, which a faster sort would change.
    """
    digest = hashlib.sha256()
    for name in ("seconds", "customer_id", "terminal_id", "amount", "scenario"):
        column = frame[name].to_numpy()
        values = np.rint(column * 100) if name == "amount" else column
        digest.update(values.astype("<i4").tobytes())
    assert digest.hexdigest() == DIGEST


DIGEST = "da7d9b14f5ce812d1d085f55a5b1393a717f7bb4f3bcebc39fecc35d5f6bb8a5"


def test_simulate_is_its_parts(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(simulate(WORLD), frame)
