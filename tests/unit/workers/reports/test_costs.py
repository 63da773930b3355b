"""The report's section on costs: a bar for each day and role, a row for each role."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from streams.settings import Settings
from tests.unit.streams.evaluation.test_processor import PIPELINE
from tests.unit.workers.costs.test_statement import USAGES, made
from tests.unit.workers.costs.test_summing import used
from tests.unit.workers.reports.test_page import KNOWN, Read
from workers.reports.costs import costs
from workers.reports.live import Known, live_report
from workers.reports.page import Page, Section


def heights(section: Section) -> dict[str, list[float]]:
    """The bars of the picture by role, over the days."""
    [picture] = section.pictures
    axes = Figure().add_subplot()
    picture.draw(axes)
    return {
        str(bars.get_label()): [round(float(bar.get_height()), 6) for bar in bars]
        for bars in axes.containers
    }


def test_bars_and_rows_are_what_was_spent() -> None:
    section = costs(made([*USAGES, used("score", 4, day=1)]))
    assert heights(section) == {"training": [15, 0], "score": [2, 4], "label": [1, 0]}
    [table] = section.tables
    assert table.head[-1] == "Cost (EUR)"
    assert [row[0] for row in table.rows] == ["training", "score", "label", "all"]
    assert table.rows[-1][-1] == "22.00"
    assert "22.00 EUR over 2 days; training takes the most." in section.pictures[0].says
    assert "EUR: a point of average_precision" in section.says


def test_without_prices_it_shows_hours() -> None:
    section = costs(made(USAGES, Settings()))
    assert heights(section)["training"] == [15]
    assert section.pictures[0].title == "CPU by day"
    assert section.tables[0].rows[0][-1] == "-"
    assert section.says.startswith("Nothing has a price: set")


def test_many_roles_are_joined() -> None:
    roles = ("score", "label", "evaluate", "shadow", "trainer", "training", "kafka")
    bars = heights(costs(made([used(role, 7 - n) for n, role in enumerate(roles)])))
    assert list(bars) == ["score", "label", "evaluate", "shadow", "trainer", "others"]
    assert bars["others"] == [3]


def test_the_report_has_it_where_something_was_used(tmp_path: Path) -> None:
    titles = [one.title for one in live_report(Known(PIPELINE, [], [], (), (), made([]))).sections]
    assert "Costs" not in titles
    page = live_report(Known(PIPELINE, [], [], (), (), made(USAGES)))
    assert page.sections[-1].title == "Costs"
    found = Read(Page(page.title, page.says, page.sections).html())
    assert found.tags <= KNOWN
    assert [one.name for one in page.write_pictures(tmp_path)] == ["costs.png"]
