"""What the report shows of drift."""

from __future__ import annotations

from pathlib import Path

from tests.unit.streams.evaluation.test_processor import PIPELINE
from tests.unit.workers.evaluation.test_live_drift import day, rows
from tests.unit.workers.reports.test_live import names, titles
from tests.unit.workers.reports.test_page import Read
from workers.reports.drifting import section
from workers.reports.live import Known, live_report

ROWS = rows([day(30), day(31, 5.0), day(32), day(32, version=2), day(33)])


def test_it_shows_shifts_and_the_columns_that_moved() -> None:
    page = live_report(Known(PIPELINE, [], [], drift=ROWS))
    assert titles(page) == ["Live quality", "Drift", "Gate and roll-outs"]
    assert names(page) == ["drift", "drift-columns"]
    text = Read(page.html()).text
    assert "1 of 3 buckets that were judged are alarms" in text
    assert "Version 1, 1970-02-02" in text
    assert "over the level of all" in text


def test_the_table_is_of_the_latest_bucket_that_was_judged() -> None:
    found = section(ROWS[:2])
    assert found is not None
    [table] = found.tables
    assert table.title == "Version 1, 1970-02-01"
    named, alarm, before, now, *_ = table.rows[0]
    assert (named, alarm) == ("amount", "alarm")
    assert float(now) > 3 * float(before)


def test_without_a_bucket_that_is_over_what_is_known_is_shown() -> None:
    found = section(rows([day(30)]))
    assert found is not None
    assert [picture.name for picture in found.pictures] == ["drift-columns"]
    assert "0 of 0" in found.says


def test_without_a_reference_it_says_so_and_without_anything_nothing() -> None:
    found = section(rows([day(30, version=2)]))
    assert found is not None
    assert "No version that served has a reference" in found.says
    assert section([]) is None


def test_the_page_stays_small() -> None:
    many = rows(day(number) for number in range(30, 130))
    assert len(live_report(Known(PIPELINE, [], [], drift=many)).html()) < 200_000


def test_pictures_are_drawn_as_files_too(tmp_path: Path) -> None:
    page = live_report(Known(PIPELINE, [], [], drift=ROWS))
    written = page.write_pictures(tmp_path)
    assert [one.name for one in written] == ["drift.png", "drift-columns.png"]
