"""When a candidate is due, and from which offsets: by event time alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streams.spec import Retrain
from streams.spec.tasks import BINARY
from workers.examples.index import Index
from workers.examples.reading import OffsetRanges
from workers.training.schedule import Due, due, why_not

DAY = 86_400.0
POLICY = Retrain(
    every="2d", window="6d", validate="1d", evaluate="1d", least_examples=50, least_positives=5
)


def index(days: float, partitions: int = 2, per_day: int = 100) -> Index:
    """Examples in the order of event time, one in four positive, spread over the partitions."""
    found = Index()
    times = np.arange(0, days * DAY, DAY / per_day)
    labels = (np.arange(len(times)) // partitions % 4 == 0).astype(np.float32)
    for partition in range(partitions):
        mine = slice(partition, None, partitions)
        count = len(times[mine])
        found.add(partition, np.arange(count), times[mine], labels[mine])
    return found


def made(found: Index, decided: float = 0.0, expected: frozenset[int] = frozenset()) -> Due | None:
    return due(POLICY, found, decided, expected, task=BINARY)


def test_nothing_is_due_before_there_are_examples() -> None:
    assert made(Index()) is None
    assert made(Index(), expected=frozenset({0, 1})) is None


def test_the_first_candidate_needs_enough_in_each_slice() -> None:
    assert made(index(2.5)) is None  # a grid step, but no day to train on
    found = made(index(4.1))
    assert found is not None
    assert found.watermark == 4 * DAY


def test_the_next_is_due_one_step_after_the_last() -> None:
    assert made(index(5.9), decided=4 * DAY) is None
    found = made(index(6.1), decided=4 * DAY)
    assert found is not None
    assert found.watermark == 6 * DAY


def test_what_was_missed_is_not_made_up_for() -> None:
    found = made(index(20), decided=4 * DAY)
    assert found is not None
    assert found.watermark == 18 * DAY
    assert found.slices.train == (12 * DAY, 16 * DAY)


def test_the_offsets_do_not_depend_on_how_far_was_read() -> None:
    one, two = made(index(6.1), 4 * DAY), made(index(7.9), 4 * DAY)
    assert one is not None
    assert two is not None
    assert one == two


def test_offsets_cover_the_window_and_no_more() -> None:
    found = made(index(10.5, partitions=1), decided=8 * DAY)
    assert found is not None
    # 100 a day, one partition: offset = day * 100; the example at the watermark itself counts
    assert found.window == OffsetRanges({0: (400, 1001)})


def test_a_correction_is_read_if_it_came_before_the_watermark_was_passed() -> None:
    found = index(6.1, partitions=1)
    late = index(6.1, partitions=1)
    late.add(0, np.array([610]), np.array([2 * DAY]), np.array([1.0], np.float32))
    one, two = made(found, 4 * DAY), made(late, 4 * DAY)
    assert one is not None
    assert two is not None
    assert one.window == two.window


def test_the_slowest_partition_holds_the_watermark() -> None:
    found = index(8, partitions=2)
    found.add(2, np.array([0]), np.array([3 * DAY]), np.zeros(1, np.float32))
    assert found.watermark(frozenset(), idle=POLICY.window_seconds) == 3 * DAY


def test_a_partition_that_has_stopped_does_not_hold_the_others_up() -> None:
    found = index(20, partitions=2)
    found.add(2, np.array([0]), np.array([3 * DAY]), np.zeros(1, np.float32))
    assert found.watermark(frozenset(), idle=POLICY.window_seconds) > 19 * DAY


def test_a_partition_whose_examples_are_still_to_come_is_waited_for() -> None:
    assert made(index(5), expected=frozenset({0, 1})) is not None
    assert made(index(5), expected=frozenset({0, 1, 2})) is None
    assert made(index(7), expected=frozenset({0, 1, 2})) is not None  # for as long as a window


def test_one_class_only_is_not_enough() -> None:
    found = Index()
    times = np.arange(0, 5 * DAY, 100.0)
    found.add(0, np.arange(len(times)), times, np.zeros(len(times), np.float32))
    assert made(found) is None


@pytest.mark.parametrize(
    ("found", "policy", "reason"),
    [
        (Index(), POLICY, ""),
        (index(1.5), POLICY, ""),  # not yet
        (index(4.1), POLICY, ""),  # nothing is lacking
        (index(2.5), POLICY, "0 training examples, policies.retrain.least_examples is 50"),
        (
            index(4.1),
            replace(POLICY, least_examples=80, least_positives=51),
            "50 training examples of the rarest class, policies.retrain.least_positives is 51",
        ),
    ],
)
def test_what_a_candidate_lacks_is_said_once_its_time_has_come(
    found: Index, policy: Retrain, reason: str
) -> None:
    said = why_not(policy, found, 0.0, frozenset(), task=BINARY)
    assert said.startswith(reason)
    assert bool(said) == bool(reason)


def test_what_is_old_is_forgotten() -> None:
    found = index(10)
    before = len(found)
    found.forget(5 * DAY)
    assert len(found) == before // 2
    assert found.earliest == 0.0


@pytest.mark.parametrize("days", [6.2, 8.4, 10.1])
def test_a_replay_makes_the_same_candidates(days: float) -> None:
    def history(step: float) -> list[Due]:
        decided, made_so_far = 0.0, []
        for now in [*np.arange(step, days, step), days]:
            found = made(index(float(now)), decided)
            if found is not None:
                decided = found.watermark
                made_so_far.append(found)
        return made_so_far

    assert history(0.1) == history(0.35)


def test_a_window_is_shortened_by_what_retention_has_deleted() -> None:
    found = index(10)
    before = made(found)
    assert before is not None
    assert found.forget_below({0: 250, 1: 10_000}) == 250 + 500
    after = made(found)
    assert after is not None
    assert (after.watermark, after.slices) == (before.watermark, before.slices)
    assert before.window.ranges[0][0] < 250
    assert after.window.ranges == {0: (250, before.window.ranges[0][1])}
    assert found.forget_below({0: 250}) == 0


def drifted(found: Index, end: float, decided: float = 4 * DAY) -> float:
    """The watermark of the candidate that is due with a drift; 0 for none."""
    got = due(POLICY, found, decided, frozenset(), BINARY, end)
    return got.watermark if got is not None else 0.0


def test_a_drift_makes_one_due_when_labels_have_matured_so_far() -> None:
    assert drifted(index(5.4), 5.5 * DAY) == 0.0
    assert drifted(index(5.6), 5.5 * DAY) == 5.5 * DAY
    assert drifted(index(5.9), 5.5 * DAY) == 5.5 * DAY  # of the same offsets, however late it is


def test_a_drift_and_the_time_that_has_come_make_one() -> None:
    assert drifted(index(6.1), 5.5 * DAY) == 6 * DAY
    assert drifted(index(6.9), 6.5 * DAY) == 6.5 * DAY


def test_a_drift_that_the_last_candidate_has_seen_makes_none() -> None:
    assert drifted(index(5.9), 4 * DAY) == 0.0
    assert drifted(index(5.9), 3 * DAY) == 0.0
