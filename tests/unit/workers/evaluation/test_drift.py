"""Drift: no more false alarms than declared, and the columns that moved."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from streams.distributions import Reference, ReferenceColumn
from streams.records import encode
from streams.spec import Cleaning, Drift
from tests.unit.pipelines import declare
from tests.unit.workers.evaluation.worlds import DAY, NAMES, Days, counted
from workers.evaluation.calibration import LEAST_BUCKETS, calibrate
from workers.evaluation.drift import BucketDrift, judge, level_at, stability_index
from workers.evaluation.reference import SliceColumns, fillers, reference_of

DECLARED = Drift()


def judged(days: Days, reference: Reference, number: int, policy: Drift = DECLARED) -> BucketDrift:
    _, vectors, scores, _ = days.day(number)
    return judge(reference, counted(reference, vectors, scores), policy)


def test_a_world_without_drift_alarms_no_more_than_is_declared() -> None:
    policy, alarms = Drift(rate=0.03, least=0.0), 0
    for seed in range(8):
        days = Days(seed)
        reference = days.reference()
        alarms += sum(bool(judged(days, reference, 30 + n, policy).alarms) for n in range(30))
    assert alarms <= 0.03 * 8 * 30


def test_what_one_multinomial_for_all_would_say() -> None:
    """The trap: days that differ are no drift, though they are no draws of the same events."""
    days = Days(3)
    reference = days.reference()
    floor = 0.5 / math.sqrt(reference.events)
    naive = msgspec.structs.replace(
        reference,
        columns={
            name: msgspec.structs.replace(one, spread=[floor] * len(one.edges), usual=0.0)
            for name, one in reference.columns.items()
        },
    )
    policy = Drift(least=0.0)
    alarms = sum(bool(judged(days, naive, 30 + n, policy).alarms) for n in range(20))
    assert alarms >= 15
    assert sum(bool(judged(days, reference, 30 + n, policy).alarms) for n in range(20)) <= 1


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("amount", lambda vectors: vectors[:, 0] * 4),
        ("amount", lambda vectors: np.full(len(vectors), 20.0)),
        ("rate", lambda vectors: np.zeros(len(vectors))),
        ("rate", lambda vectors: vectors[:, 2] + 0.5),
        ("web", lambda vectors: np.maximum(vectors[:, 3], np.arange(len(vectors)) % 4 == 0)),
        ("amount", lambda vectors: np.where(np.arange(len(vectors)) % 5, vectors[:, 0], -1)),
    ],
)
def test_a_feature_that_drifts_is_found_at_once(column: str, change: Any) -> None:
    days = Days(5)
    reference = days.reference()
    _, vectors, scores, _ = days.day(30)
    vectors[:, NAMES.index(column)] = change(vectors)
    found = judge(reference, counted(reference, vectors, scores), DECLARED)
    assert [one.column for one in found.alarms] == [column]
    assert found.columns[0].column == column
    assert found.ratio > 1


def test_scores_are_held_against_those_that_were_held_out() -> None:
    days = Days(6)
    trained, held_out = days.slice(0, 21), days.slice(21, 24)
    flattered = trained._replace(scores=trained.scores * 0.5)
    reference = reference_of(NAMES, flattered, held_out, DAY)
    assert not judged(days, reference, 30).alarms
    _, vectors, scores, _ = days.day(31)
    found = judge(reference, counted(reference, vectors, scores * 0.4), DECLARED)
    assert [one.column for one in found.alarms] == ["score"]


def test_few_events_prove_little() -> None:
    """A canary's bucket is held against what so few events say."""
    days = Days(7)
    reference, alarms = days.reference(), 0
    for number in range(30, 60):
        _, vectors, scores, _ = days.day(number)
        cell = counted(reference, vectors[:40], scores[:40])
        alarms += bool(judge(reference, cell, Drift(least=0.0)).alarms)
    assert alarms <= 1


def test_numbers_that_are_shown() -> None:
    days = Days(8)
    reference = days.reference()
    _, vectors, scores, _ = days.day(30)
    vectors[:10, 2] = -3
    columns = {
        one.column: one
        for one in judge(reference, counted(reference, vectors, scores), DECLARED).columns
    }
    assert set(columns) == {*NAMES, "score"}
    assert columns["rate"].outside == pytest.approx(10 / len(vectors))
    assert columns["amount"].after == pytest.approx(vectors[:, 0].mean(), rel=1e-5)
    assert columns["amount"].before == pytest.approx(reference.columns["amount"].mean)
    assert math.isnan(columns["amount"].missing)


def test_the_share_of_missing_values_is_that_of_what_stands_for_them() -> None:
    pipeline = declare(cleaning=Cleaning(missing={"channel": "web", "amount": 21.5}))
    assert fillers(pipeline) == {"amount": 21.5}
    days = Days(9)
    reference = days.reference(filled={"amount": 21.5})
    _, vectors, scores, _ = days.day(30)
    vectors[:60, 0] = 21.5
    found = judge(reference, counted(reference, vectors, scores), DECLARED)
    amount = next(one for one in found.columns if one.column == "amount")
    assert amount.missing == pytest.approx(60 / len(vectors))


def test_without_enough_buckets_there_is_no_alarm() -> None:
    days = Days(10)
    reference = days.reference(LEAST_BUCKETS - 1)
    assert reference.levels == {}
    _, vectors, scores, _ = days.day(30)
    found = judge(reference, counted(reference, vectors * 100, scores), DECLARED)
    assert found.alarms == []
    assert math.isnan(found.ratio)
    assert found.columns[0].psi > 1  # what is known is shown


def test_fewer_buckets_make_higher_levels() -> None:
    levels = [Days(11).reference(number).levels[0.01] for number in (8, 14, 40)]
    assert levels == sorted(levels, reverse=True)


def test_levels_between_those_that_were_drawn() -> None:
    levels = {0.1: 3.0, 0.01: 5.0}
    assert level_at(levels, 0.01) == 5.0
    assert level_at(levels, 0.1**1.5) == pytest.approx(4.0)
    assert math.isnan(level_at({}, 0.01))


def test_levels_are_no_lower_than_what_training_buckets_had() -> None:
    """Whatever the days are like, the last of them were seen."""
    rng = np.random.default_rng(12)
    counts = rng.multinomial(500, [0.25] * 4, 20)
    counts[3] = [500, 0, 0, 0]  # one of twenty days is like no other
    plain = calibrate([np.delete(counts, 3, axis=0)], 0).levels
    levels = calibrate([counts], 0).levels
    assert levels[0.03] > 4 * plain[0.03]
    assert levels[0.1] < 2 * plain[0.1]  # it is one of twenty


def test_the_index_is_that_of_the_books_where_no_bin_is_empty() -> None:
    p, q = np.array([400_000, 600_000]), np.array([500_000, 500_000])
    expected = 0.1 * math.log(0.5 / 0.4) - 0.1 * math.log(0.5 / 0.6)
    assert stability_index(p.tolist(), q) == pytest.approx(expected, rel=1e-4)


def columns_of(values: Any, **asked: Any) -> ReferenceColumn:
    """The reference of one feature with these values."""
    values = np.array(values, np.float32)
    count = len(values)
    times = np.linspace(0, 10 * DAY, count, endpoint=False)
    seen = SliceColumns(
        (0, 10 * DAY), times, values[:, None], np.zeros((count, 1)), np.arange(count)
    )
    return reference_of(["a"], seen, seen, DAY, **asked).columns["a"]


def test_each_of_few_values_has_its_bin() -> None:
    found = columns_of([0, 1, 1, 5] * 100)
    assert found.counts == [0, 100, 200, 100, 0]
    assert (found.low, found.high, found.mean) == (0, 5, 1.75)


def test_a_value_that_many_share_has_its_bin() -> None:
    rng = np.random.default_rng(0)
    found = columns_of(np.where(np.arange(4000) % 3, rng.normal(0, 9, 4000), 0.5))
    edges = np.array(found.edges, np.float32)
    place = int(np.searchsorted(edges, np.float32(0.5)))
    assert found.counts[place] == 1334
    assert edges[place] == 0.5
    assert max(found.counts[:place] + found.counts[place + 1 :]) < 4000 / 14
    assert len(found.counts) <= 22


def test_only_whole_buckets_count() -> None:
    days = Days(13)
    seen = days.slice(0, 12)
    inside = (seen.event_time >= 0.7 * DAY) & (seen.event_time < 11.2 * DAY)
    cut = SliceColumns(
        (0.7 * DAY, 11.2 * DAY),
        seen.event_time[inside],
        seen.vectors[inside],
        seen.scores[inside],
        seen.keys[inside],
    )
    found = reference_of(NAMES, cut, cut, DAY)
    assert found.buckets == 10
    whole = (seen.event_time >= DAY) & (seen.event_time < 11 * DAY)
    assert sum(found.columns["amount"].counts) == whole.sum()


def test_a_reference_is_small() -> None:
    rng = np.random.default_rng(1)
    count = 3000
    times = np.linspace(0, 10 * DAY, count, endpoint=False)

    def size(features: int) -> int:
        vectors = rng.normal(size=(count, features)).astype(np.float32)
        seen = SliceColumns((0, 10 * DAY), times, vectors, rng.random((count, 1)), np.arange(count))
        names = [f"feature_{number}" for number in range(features)]
        return len(encode(reference_of(names, seen, seen, DAY)))

    assert size(15) < 9_000
    assert size(400) < 220_000  # a broker takes 1 MB


def test_the_same_slices_give_the_same_reference() -> None:
    assert Days(14).reference(seed=3) == Days(14).reference(seed=3)
