"""Buckets of what was served, added up, and judged when they can be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import ConsumerRecord

from streams.distributions import PARTS, Binning, Distribution, Reference
from streams.ports.batches import SourceRecord
from streams.records import encode
from streams.spec import Drift
from streams.sums import Cell
from tests.unit.workers.evaluation.worlds import DAY, Days, counted
from workers.evaluation.live_drift import DriftRow, LiveDrift, with_labels

WORLD = Days(1)
REFERENCE = WORLD.reference()


def day(number: int, factor: float = 1.0, version: int = 1) -> Distribution:
    """What a version served in a day, its amounts multiplied."""
    _, vectors, scores, _ = WORLD.day(number)
    vectors[:, 0] *= factor
    found = counted(REFERENCE, vectors, scores, number * DAY)
    found.version = version
    return found


def record(cell: Distribution, partition: int = 0) -> SourceRecord:
    key = encode((int(cell.start), cell.version))
    found: SourceRecord = ConsumerRecord(
        "P.drift", partition, 0, 0, 0, key, encode(cell), None, 0, 0, ()
    )
    return found


def rows(cells: Iterable[Distribution], partitions: int = 1) -> list[DriftRow]:
    """What is said of cells, each of which every partition has."""
    live = LiveDrift(Drift())
    for cell in cells:
        live.add(record(cell, partition) for partition in range(partitions))
    return live.rows({1: REFERENCE, 2: None})


def part(cell: Distribution, first: int, after: int) -> Distribution:
    """The cell, as if it were of these parts of the bucket only."""
    found = msgspec.structs.replace(cell)
    found.parts = [n if first <= i < after else 0 for i, n in enumerate(cell.parts)]
    found.events = sum(found.parts)
    return found


def test_a_bucket_is_judged_when_it_is_over() -> None:
    quiet, loud = day(30), day(31, 5.0)
    assert [row.unjudged for row in rows([quiet, loud])] == ["", "not over yet"]
    before, alarmed, _ = rows([quiet, loud, day(32)])
    assert not before.alarm
    assert alarmed.alarm
    assert alarmed.drift is not None
    assert [one.column for one in alarmed.drift.alarms] == ["amount"]
    assert (alarmed.start, alarmed.end) == (31 * DAY, 32 * DAY)


def test_a_bucket_waits_for_the_partition_that_is_behind() -> None:
    live = LiveDrift(Drift())
    live.add(record(day(number), 0) for number in (30, 31, 32))
    live.add([record(day(30), 1)])
    assert live.watermark == 31 * DAY - 1
    assert [row.unjudged for row in live.rows({1: REFERENCE})] == ["not over yet"] * 3
    live.add([record(day(40), 0)])  # one that has stopped is not waited for
    assert live.watermark == 41 * DAY - 1


def test_a_bucket_waits_for_a_partition_of_which_nothing_is_counted_yet() -> None:
    live = LiveDrift(Drift())
    live.add(record(day(number), 0) for number in (30, 31))
    live.expected = (0, 1)
    assert live.watermark == 30 * DAY
    assert {row.unjudged for row in live.rows({1: REFERENCE})} == {"not over yet"}
    live.add([record(day(31), 1)])
    assert live.watermark == 32 * DAY - 1


def test_a_later_record_of_a_cell_replaces_the_earlier() -> None:
    live = LiveDrift(Drift())
    live.add([record(part(day(30), 0, 5)), record(day(30)), record(day(31))])
    assert live.rows({})[0].events == day_events(live, 30)


def day_events(live: LiveDrift, number: int) -> int:
    [cell] = [one for name, one in live._cells.items() if name[1] == number * DAY]
    return cell.events


def test_partitions_are_added_up() -> None:
    one, other = day(30), day(30)
    live = LiveDrift(Drift())
    live.add([record(one, 0), record(other, 1), record(day(31), 0), record(day(31), 1)])
    row = live.rows({1: REFERENCE})[0]
    assert row.events == one.events + other.events
    counts = np.array(one.counts[0]) + np.array(other.counts[0])
    [amount] = [c for c in row.drift.columns if c.column == "amount"] if row.drift else []
    assert amount.after == pytest.approx((one.sums[0] + other.sums[0]) / counts.sum())


def test_a_version_that_served_in_the_evening_is_not_judged() -> None:
    other = part(day(30), 0, 18)
    other.version, other.counts, other.sums, other.outside = 0, [], [], []
    found = rows([part(day(30), 18, PARTS), other, day(31), day(32)])
    assert [(row.version, row.unjudged) for row in found[:3]] == [
        (0, "the fallback"),
        (1, "served in a part of it"),
        (1, ""),
    ]
    assert found[0].fallback == found[1].fallback == pytest.approx(0.75, abs=0.03)
    assert found[1].share == pytest.approx(0.25, abs=0.03)


def test_a_canary_that_served_some_all_day_is_judged() -> None:
    few = msgspec.structs.replace(day(30), version=1)
    few.parts = [n // 20 for n in few.parts]
    few.events = sum(few.parts)
    most = msgspec.structs.replace(day(30), version=2)
    assert [row.unjudged for row in rows([few, most, day(31)])[:2]] == ["", "no reference"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"span": 3600}, "its reference has other buckets"),
        ({"levels": {}}, "trained on too few buckets"),
    ],
)
def test_what_cannot_be_judged_is_shown(change: dict[str, Any], why: str) -> None:
    other: Reference = msgspec.structs.replace(REFERENCE, **change)
    live = LiveDrift(Drift())
    live.add(record(day(number, 9.0)) for number in (30, 31))
    row = live.rows({1: other})[0]
    assert (row.unjudged, row.alarm) == (why, False)
    assert row.drift is not None
    assert max(one.psi for one in row.drift.columns) > 1


def test_a_partition_that_did_not_know_the_version_yet_counts_as_far_as_it_goes() -> None:
    blind = msgspec.structs.replace(day(30), counts=[], sums=[], outside=[])
    live = LiveDrift(Drift())
    live.add([record(blind, 0), record(day(30), 1), record(day(31), 0), record(day(31), 1)])
    [row, _] = live.rows({1: REFERENCE})
    assert row.drift is not None
    assert row.drift.alarms == []


def test_labels_are_those_of_the_metrics() -> None:
    found = rows([day(30), day(31)])
    cells = [
        Cell(30.0 * DAY, DAY, 1, "champion", "", events=80, fed_back=8, delay=80.0),
        Cell(30.0 * DAY, DAY, 1, "champion", "", events=20, fed_back=12, delay=120.0),
        Cell(30.0 * DAY, DAY, 1, "champion", "web", events=9, fed_back=9, delay=9.0),
    ]
    labelled, unknown = with_labels(found, cells)
    assert (labelled.coverage, labelled.label_delay) == (0.2, 10.0)
    assert math.isnan(unknown.coverage)


def test_a_row_is_plain_json() -> None:
    found = [row.as_dict() for row in rows([day(30, 5.0), day(31)])]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found[0]["alarm"] is True
    assert found[0]["columns"][0]["column"] == "amount"
    assert found[0]["coverage"] is None


def test_cells_of_long_ago_are_forgotten() -> None:
    live = LiveDrift(Drift())
    live.add(record(day(number)) for number in (30, 31, 32))
    live.forget(31 * DAY)
    assert [row.start for row in live.rows({})] == [31 * DAY, 32 * DAY]


def test_the_counts_are_those_of_the_reference() -> None:
    assert len(Binning(REFERENCE).counts(np.zeros((0, 5), np.float32))) == len(REFERENCE.columns)
