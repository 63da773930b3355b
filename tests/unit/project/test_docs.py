"""What the documentation shows works, exists and is current."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from streams.testing import Rehearsal, sample_events
from workers.cli import app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs" / "tutorial.md"
NAMES = [page.name for page in PAGES]


def snippets(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


async def test_the_first_pipeline_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [source] = snippets(ROOT / "README.md")
    assert source.count("\n") <= 60
    (tmp_path / "orders_of_the_readme.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    pipeline = importlib.import_module("orders_of_the_readme").pipeline
    result = await Rehearsal(pipeline).score(sample_events(pipeline, 50))
    assert len(result.predictions) == 50
    assert result.predictions[0].degraded
    sys.modules.pop("orders_of_the_readme")


@pytest.mark.parametrize("page", PAGES[1:], ids=NAMES[1:])
def test_other_snippets_run(page: Path) -> None:
    if page == TUTORIAL:  # whose files are made one after the other
        return
    for source in snippets(page):
        exec(compile(source, page.name, "exec", dont_inherit=True), {})


def test_the_files_of_the_tutorial_work_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline, its test, and the shop, whose orders and labels the pipeline takes."""
    orders, test, shop = snippets(TUTORIAL)
    (tmp_path / "orders.py").write_text(orders)
    monkeypatch.syspath_prepend(str(tmp_path))
    exec(compile(test, "test_orders.py", "exec"), {})
    pipeline = importlib.import_module("orders").pipeline
    made: dict[str, Any] = {"__name__": "shop"}
    exec(compile(shop, "shop.py", "exec"), made)
    sent = list(made["shop"](days=12))
    events = [one for topic, _, one in sent if topic == pipeline.topics.events]
    labels = [one for topic, _, one in sent if topic == pipeline.topics.feedback]

    async def run() -> None:
        rehearsal = Rehearsal(pipeline)
        assert len((await rehearsal.score(events)).predictions) == len(events) == 1200
        assert (await rehearsal.label(labels)).dead_letters == []

    asyncio.run(run())
    assert {label["label"] for label in labels} == {"kept", "returned"}
    sys.modules.pop("orders")


def test_the_reference_is_current() -> None:
    """`python ops/reference.py` writes it anew."""
    written = importlib.util.spec_from_file_location("reference", ROOT / "ops" / "reference.py")
    assert written is not None
    assert written.loader is not None
    reference = importlib.util.module_from_spec(written)
    written.loader.exec_module(reference)
    assert reference.PAGE.read_text() == reference.page(), "run python ops/reference.py"
    assert "|  |\n" not in reference.page(), "a field without a docstring"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist(page: Path) -> None:
    command = typer.main.get_command(app)
    known = set(command.commands)  # type: ignore[attr-defined]
    mentioned = set(re.findall(r"driftloop ([a-z]+)\b", page.read_text()))
    assert mentioned <= known


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_modules_exist(page: Path) -> None:
    paths = re.findall(r"`((?:streams|workers|ops)/[\w/.]*)`", page.read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_settings_page_is_current() -> None:
    shown = CliRunner().invoke(app, ["settings", "--markdown"]).stdout
    assert shown.strip() in (ROOT / "docs" / "settings.md").read_text()
