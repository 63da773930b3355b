"""Gains as the gate measured them, and an honest upper end for the next."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streams.ledger.state import state_after
from streams.records import Action, LedgerEntry
from tests.models import manifest
from tests.unit.pipelines import declare
from workers.costs.gains import MeasuredGain, gained, gains, most_expected

PIPELINE = declare()


def entry(version: int, action: Action, **metrics: float) -> LedgerEntry:
    made = manifest(PIPELINE, version, b"", metrics=metrics)
    return LedgerEntry(
        action, version, 0, at=0.0, reason="", by="gate", threshold=0.5, manifest=made
    )


def test_gains_are_points_of_what_was_compared_and_count_where_published() -> None:
    now = state_after(
        [
            entry(1, Action.PROMOTE),
            entry(2, Action.PROMOTE, gain=0.03, gain_se=0.01),
            entry(3, Action.REJECT, gain=-0.02, gain_se=0.01),
            entry(4, Action.INCONCLUSIVE, gain=0.01, gain_se=math.nan),
            entry(5, Action.PROMOTE, gain=0.02, gain_se=0.005),
            entry(2, Action.ROLLBACK, gain=0.03, gain_se=0.01),
        ]
    )
    found = gains(now)
    assert [(one.version, one.published) for one in found] == [(2, True), (3, False), (5, False)]
    assert gained(found) == pytest.approx(3.0)


def test_nothing_is_expected_before_five_are_known() -> None:
    assert most_expected([MeasuredGain(1, 0.1, 0.1, True)] * 4) == math.inf
    assert most_expected([MeasuredGain(1, 0.1, 0.1, True)] * 5) < 1


def test_five_alike_prove_no_more_than_their_measurements() -> None:
    found = [MeasuredGain(version, 0.0, 1.0, False) for version in range(5)]
    assert most_expected(found) == pytest.approx(2.132 / math.sqrt(5))


def test_only_the_last_five_count_and_only_what_was_published_gained() -> None:
    old = [MeasuredGain(version, 50.0, 0.1, True) for version in range(9)]
    new = [MeasuredGain(version, 9.0, 0.1, False) for version in range(5)]
    assert most_expected(old + new) == pytest.approx(2.132 * 0.1 / math.sqrt(5))


def test_the_upper_end_is_below_the_true_mean_in_one_of_twenty() -> None:
    rng = np.random.default_rng(3)
    true, missed = 0.4, 0
    for _ in range(4000):
        drawn = rng.normal(true, 1.0, 5)
        missed += most_expected([MeasuredGain(0, float(one), 0.0, True) for one in drawn]) < true
    assert missed / 4000 == pytest.approx(0.05, abs=0.012)
