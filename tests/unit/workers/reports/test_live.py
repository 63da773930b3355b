"""The report of a pipeline: what it shows of cells and a ledger, and what it waits for."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np

from streams.evaluation.totals import Total
from streams.records import Action, LedgerEntry
from streams.spec import Decision, Evaluate, Feedback, Model, Pipeline, Policies, Slices
from streams.sums import Cell
from tests.models import manifest
from tests.unit.pipelines import declare
from tests.unit.streams.evaluation.test_processor import DAY, PIPELINE, T0, Topics, examples
from tests.unit.workers.reports.test_page import KNOWN, Read
from workers.reports.live import Known, live_report
from workers.reports.page import Page

HOSTILE = "<script>alert(1)</script>"


def entry(version: int, action: Action = Action.PROMOTE, **fields: Any) -> LedgerEntry:
    metrics = {"gate.margin": -0.01, "gate.margin.bound": -0.04, "gate.margin.verdict": 1.0}
    made = manifest(PIPELINE, version, b"", metrics=metrics)
    told = {"at": T0, "reason": "margin: it is good; worse passed (1, bound 0)", "by": "gate"}
    return LedgerEntry(action, version, 0, threshold=0.5, manifest=made, **{**told, **fields})


async def cells_of(pipeline: Pipeline = PIPELINE, days: float = 4.0) -> list[Cell]:
    topics = Topics(pipeline)
    await topics.count(await topics.evaluator(), examples(3000, days=days))
    return [*topics.cells().values()]


async def cells_of_classes(pipeline: Pipeline) -> list[Cell]:
    """Of three classes."""
    rng, topics = np.random.default_rng(0), Topics(pipeline)
    scores = rng.dirichlet((1, 1, 1), 900)
    labels = [int(rng.choice(3, p=row)) for row in scores]
    found = [
        msgspec.structs.replace(
            one, score=row.tolist(), label=float(label), decision=int(row.argmax())
        )
        for one, row, label in zip(examples(900), scores, labels, strict=True)
    ]
    await topics.count(await topics.evaluator(), found)
    return [*topics.cells().values()]


def names(page: Page) -> list[str]:
    return [picture.name for section in page.sections for picture in section.pictures]


def titles(page: Page) -> list[str]:
    return [section.title for section in page.sections]


def test_before_anything_is_measured_it_says_what_it_waits_for() -> None:
    page = live_report(Known(PIPELINE, [], []))
    assert titles(page) == ["Live quality", "Gate and roll-outs"]
    assert names(page) == []
    assert "No event has matured yet" in page.sections[0].says
    assert "The ledger is empty" in page.sections[1].says
    assert "the fallback answers" in page.says


async def test_it_shows_every_picture_and_the_numbers_of_the_cells() -> None:
    cells = await cells_of()
    page = live_report(Known(PIPELINE, cells, [entry(1)]))
    assert names(page) == [
        *("average-precision", "roc-auc", "precision", "recall"),
        *("calibration", "precision-recall", "roc", "confusion", "scores"),
        *("alerts", "coverage", "label-delay"),
    ]
    assert "3,000 events" in page.says
    mine = [cell for cell in cells if cell.version == 1]
    measures = Total.of(cell for cell in mine if not cell.slice).measures()
    text = Read(page.html()).text
    assert f"AUC, {measures['roc_auc']:.3f}" in text
    assert f"precision {measures['precision']:.3f}, recall {measures['recall']:.3f}" in text
    assert f"{measures['bias']:.2f} times the share" in text
    yesterday = Total.of(c for c in mine if not c.slice and c.start == T0 + 2 * DAY).measures()
    latest = page.sections[0].pictures[0].says
    assert latest.startswith(f"Version 1 has {yesterday['average_precision']:.3f} (95 % interval ")
    assert "latest complete step" in latest


async def test_its_pictures_have_the_colours_of_the_page_alone() -> None:
    page = live_report(Known(PIPELINE, await cells_of(), [entry(1), entry(2, Action.ROLLBACK)]))
    html = page.html()
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert not re.findall(r"(?:fill|stroke): (?!none|var)[^;\"]*", svg)


async def test_slices_are_a_table_and_one_that_is_worse_is_named() -> None:
    dear = Slices(by=("amount>300", "channel"))
    pipeline = declare(policies=Policies(evaluate=Evaluate(slices=dear)))
    topics, rng = Topics(pipeline), np.random.default_rng(5)
    spoilt = [
        # what is dear gets a score that knows nothing
        msgspec.structs.replace(one, score=float(rng.random())) if dear else one
        for one in examples(8000, days=1.9)
        for dear in [np.frombuffer(one.vector, "<f4")[0] > 300]
    ]
    await topics.count(await topics.evaluator(), spoilt)
    page = live_report(Known(pipeline, [*topics.cells().values()], [entry(1)]))
    [table] = page.sections[titles(page).index("Slices")].tables
    assert {row[0] for row in table.rows} == {"channel=web", "channel=app", "amount>300"}
    assert "all events together, by AP: amount>300." in table.says


async def test_costs_are_shown_where_they_are_declared() -> None:
    pipeline = declare(policies=Policies(evaluate=Evaluate(costs=((0, 1), (50, 0)))))
    cells = [cell for cell in await cells_of() if not cell.slice]
    [table] = live_report(Known(pipeline, cells, [])).sections[0].tables
    assert table.head[-1] == "Cost of an event"
    total = Total.of(cell for cell in cells if cell.version == 2)
    assert table.rows[0][0] == "2"
    assert table.rows[0][-1] == f"{total.measures(((0, 1), (50, 0)))['cost']:.3f}"


async def test_several_classes() -> None:
    classes = ("red", "green", HOSTILE)
    pipeline = declare(
        model=Model(network=lambda features: features, outputs=3),
        decision=Decision(classes=classes),
        feedback=Feedback(horizon="1h", classes=classes),
    )
    page = live_report(Known(pipeline, await cells_of_classes(pipeline), [entry(1)]))
    assert "accuracy" in names(page)
    assert {"calibration", "precision-recall", "roc", "confusion", "scores"} <= set(names(page))
    [table] = page.sections[1].tables
    assert [row[0] for row in table.rows] == [*classes]
    found = Read(page.html())
    assert found.tags <= KNOWN
    assert found.text.count(HOSTILE) >= 4


async def test_before_a_version_serves_it_shows_the_fallback() -> None:
    cells = [cell for cell in await cells_of() if cell.version == 0]
    page = live_report(Known(PIPELINE, cells, []))
    assert "The fallback" in titles(page)
    assert page.sections[0].pictures[0].says.startswith("The fallback has ")


async def test_a_champion_without_matured_events_leaves_its_place_to_the_one_before() -> None:
    page = live_report(Known(PIPELINE, await cells_of(), [entry(9)]))
    assert "version 9 serves" in page.says
    assert {"Version 1", "Version 2", "The fallback"} & set(titles(page))


async def test_where_nothing_was_labelled_positive_nothing_is_ranked() -> None:
    topics = Topics()
    found = [msgspec.structs.replace(one, label=0.0) for one in examples(200) if not one.decision]
    await topics.count(await topics.evaluator(), found)
    page = live_report(Known(PIPELINE, [*topics.cells().values()], [entry(1)]))
    assert names(page) == ["confusion", "alerts", "coverage", "label-delay"]
    assert page.html()


async def test_many_versions_and_buckets_make_no_large_page() -> None:
    week = await cells_of(days=7.0)
    cells = [
        msgspec.structs.replace(c, start=c.start + 7 * DAY * number, version=number + c.version)
        for number in range(60)
        for c in week
        if c.version
    ]
    entries = [entry(version, reason=f"margin: {'long ' * 50}") for version in range(1, 200)]
    page = live_report(Known(PIPELINE, cells, entries))
    html = page.html()
    assert len(html.encode()) < 1_000_000
    [table] = page.sections[0].tables
    assert [row[0] for row in table.rows] == [str(version) for version in range(61, 21, -1)]
    assert "21 older ones" in table.says


async def test_names_and_reasons_from_elsewhere_are_shown_as_they_are() -> None:
    classes = ("fine", HOSTILE)
    pipeline = declare(
        decision=Decision(classes=classes), feedback=Feedback(horizon="1h", classes=classes)
    )
    cells = [msgspec.structs.replace(c, slice=c.slice and HOSTILE) for c in await cells_of()]
    entries = [entry(1, reason=HOSTILE, who=HOSTILE, evidence={HOSTILE: 1.0})]
    found = Read(live_report(Known(pipeline, cells, entries)).html())
    assert found.tags <= KNOWN
    assert found.text.count(HOSTILE) >= 8
