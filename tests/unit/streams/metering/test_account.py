"""What a process has used is added up by day, whatever clocks, restarts and brokers do."""

from __future__ import annotations

from typing import Any

import pytest

from streams.metering.account import DAY, Account, MeterReading, Usage

NOON = 20_000.5 * DAY
GIB = 1 << 30


def reading(after: float, **fields: Any) -> MeterReading:
    """So many seconds after noon."""
    told = {"at": NOON + after, "clock": 100 + after, "cpu_seconds": 0.0, "memory": GIB}
    return MeterReading(**{**told, **fields})


def opened(process: str = "host-1-5.00", **first: Any) -> Account:
    return Account(process, "score", "host", reading(0, **first), (2.0, 4.0))


def only(account: Account) -> Usage:
    [record] = account.records
    return record


def test_a_record_holds_all_that_was_used_since_the_first_reading() -> None:
    mine = opened()
    mine.take(reading(1800, cpu_seconds=600.0, memory=3 * GIB, events=50, predictions={1: 50}))
    mine.take(
        reading(3600, cpu_seconds=900.0, memory=3 * GIB, events=90, predictions={1: 60, 2: 30})
    )
    found = only(mine)
    assert (found.start, found.until, found.seconds) == (NOON, NOON + 3600, 3600)
    assert found.cpu_seconds == 900
    assert found.gib_hours == pytest.approx(2 * 0.5 + 3 * 0.5)
    assert (found.events, found.predictions) == (90, {1: 60, 2: 30})
    assert (found.cpus, found.gib, found.role, found.host) == (2, 4, "score", "host")


def test_what_was_used_before_the_first_reading_is_not_counted() -> None:
    mine = opened(cpu_seconds=70.0, events=5, predictions={3: 5})
    mine.take(reading(10, cpu_seconds=71.0, events=6, predictions={3: 6}))
    assert (only(mine).cpu_seconds, only(mine).events, only(mine).predictions) == (1, 1, {3: 1})


def test_a_clock_that_goes_back_loses_nothing_and_makes_nothing_negative() -> None:
    mine = opened()
    mine.take(reading(60, cpu_seconds=10.0))
    mine.take(reading(120, at=NOON - 2 * DAY, cpu_seconds=20.0))
    mine.take(reading(180, at=NOON - 2 * DAY + 60, cpu_seconds=30.0))
    mine.take(reading(240, cpu_seconds=40.0))
    mine.take(reading(300, cpu_seconds=50.0))
    found = {one.day: one for one in mine.records}
    assert sum(one.cpu_seconds for one in found.values()) == 50
    assert sum(one.seconds for one in found.values()) == 300
    today, before = found[NOON - DAY / 2], found[NOON - 2.5 * DAY]
    assert (today.cpu_seconds, before.cpu_seconds) == (30, 20)
    assert (today.start, today.until) == (NOON, NOON + 300)
    assert all(one.start <= one.until for one in found.values())


def test_readings_that_fall_count_as_nothing() -> None:
    """A tree of processes shows less when a child was taken in by another parent."""
    mine = opened(cpu_seconds=50.0)
    mine.take(reading(10, clock=90.0, cpu_seconds=20.0))
    mine.take(reading(20, cpu_seconds=25.0))
    assert only(mine).cpu_seconds == 5
    assert only(mine).seconds == 30  # by the clock that is never set; it went back once, in vain


def test_each_day_has_a_record_of_its_own() -> None:
    mine = opened()
    mine.take(reading(12 * 3600 - 1, cpu_seconds=10.0))
    mine.take(reading(12 * 3600 + 1, cpu_seconds=12.0))  # begun before midnight
    mine.take(reading(13 * 3600, cpu_seconds=20.0, predictions={1: 7}))
    first, second = mine.records
    assert (first.cpu_seconds, second.cpu_seconds) == (12, 8)
    assert (first.predictions, second.predictions) == ({}, {1: 7})
    assert first.key != second.key
    assert first.key.rpartition("/")[0] == second.key.rpartition("/")[0] == "host-1-5.00"


def test_only_what_has_changed_is_written_and_until_it_is_it_waits() -> None:
    mine = opened()
    mine.take(reading(10, cpu_seconds=1.0))
    lost = mine.changed()
    mine.take(reading(20, cpu_seconds=2.0))
    again = mine.changed()
    mine.written(lost)  # what was written is older than what there is now
    assert mine.changed() == again
    mine.written(again)
    assert mine.changed() == []
    mine.take(reading(12 * 3600 + 20, cpu_seconds=3.0))
    mine.written(mine.changed())
    mine.take(reading(12 * 3600 + 30, cpu_seconds=4.0))
    assert [one.cpu_seconds for one in mine.changed()] == [1]


def test_the_end_of_a_run_is_said_in_the_records_of_all_its_days() -> None:
    mine = opened()
    mine.take(reading(12 * 3600 + 1))
    mine.take(reading(12 * 3600 + 2))
    mine.written(mine.changed())
    mine.end("promote", 4)
    assert [(one.outcome, one.version) for one in mine.changed()] == [("promote", 4)] * 2


def test_gpus_are_counted_while_they_are_held() -> None:
    mine = opened()
    mine.take(reading(10))
    mine.take(reading(20, gpus=1))
    mine.take(reading(50, gpus=1))
    mine.take(reading(60))
    assert only(mine).gpu_seconds == 40
