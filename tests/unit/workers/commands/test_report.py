"""`driftloop report`: where it writes, and what it says of a place that cannot be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.errors import ConfigurationError
from streams.records import LedgerEntry
from streams.settings import Settings
from streams.sums import Cell
from tests.unit.streams.evaluation.test_processor import PIPELINE
from tests.unit.workers.reports.test_live import cells_of, entry
from workers.cli import app
from workers.commands import report
from workers.evaluation.live_drift import DriftRow


@pytest.fixture
async def cells() -> list[Cell]:
    return await cells_of()


@pytest.fixture(autouse=True)
def known(cells: list[Cell], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What Kafka holds."""

    async def read(*_: Any) -> tuple[list[Cell], list[LedgerEntry], None, list[DriftRow], None]:
        return cells, [entry(1)], None, [], None

    monkeypatch.setattr(report, "_read", read)
    monkeypatch.setattr(report, "find_pipeline", lambda _: PIPELINE)
    monkeypatch.setattr(report, "connected_settings", lambda *_, **__: Settings(kafka="none:1"))
    monkeypatch.chdir(tmp_path)


def test_the_page_has_the_name_of_the_pipeline(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", "orders"])
    assert done.exit_code == 0, done.output
    page = tmp_path / "orders-report.html"
    assert done.stdout == f"orders-report.html: {page.stat().st_size / 1000:,.0f} kB\n"
    assert [path.name for path in tmp_path.iterdir()] == ["orders-report.html"]


def test_the_page_goes_where_it_is_told_and_pictures_beside_it(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", "orders", "--out", "mine.html", "--png", "a/b"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mine.html").is_file()
    assert len(list((tmp_path / "a" / "b").glob("*.png"))) == 12
    assert "a/b: 12 pictures" in done.stdout


@pytest.mark.parametrize("where", [["--out", "none/page.html"], ["--png", "file"]])
def test_a_place_that_cannot_be_written_is_named(where: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, ["report", "orders", *where])
    assert isinstance(done.exception, ConfigurationError)
    assert f"cannot write {where[1]} (" in str(done.exception)
