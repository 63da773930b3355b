"""The report of predicted numbers: errors, their intervals, coverage, and nothing of classes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from streams.evaluation.totals import Total
from streams.ledger.state import LedgerState, Stage
from streams.spec import RollOut
from streams.sums import Cell
from tests import amounts
from tests.models import manifest
from tests.unit.streams.evaluation.test_processor import Topics
from tests.unit.streams.evaluation.test_values import examples
from tests.unit.workers.reports.test_live import names, titles
from tests.unit.workers.reports.test_page import Read
from tests.unit.workers.rollouts.test_values import records, state, world
from workers.reports.challenger import comparison
from workers.reports.live import Known, live_report
from workers.reports.series import interval

PIPELINE = amounts.pipeline


async def cells_of(found: Any) -> list[Cell]:
    topics = Topics(PIPELINE)
    await topics.count(await topics.evaluator(), found)
    return [*topics.cells().values()]


async def test_it_shows_errors_and_coverage_and_nothing_of_classes() -> None:
    cells = await cells_of(examples(2000, days=3.0))
    page = live_report(Known(PIPELINE, cells, []))
    assert names(page) == [
        *("wape", "mae", "below-0.05", "below-0.5", "below-0.95"),
        "quantiles",
        *("coverage", "label-delay"),
    ]
    assert titles(page)[2] == "Labels"
    text = Read(page.html()).text
    total = Total.of(c for c in cells if not c.slice and c.version == 0).measures()
    assert f"{total['below_0.95']:.1%} of 0.95" in text
    assert f"{total['mae']:.4g} [" in text
    assert "WAPE by version" in text
    assert "lies above that of the one before" in text
    assert "Class 1" not in text


async def test_a_slice_that_is_proven_worse_is_named() -> None:
    found = examples(1500)
    vectors = np.array([np.frombuffer(one.vector, "<f4")[0] for one in found])
    spoilt = [
        msgspec.structs.replace(one, score=[said + 400.0 * bool(a > 3) for said in one.score])  # type: ignore[union-attr]
        for one, a in zip(found, vectors, strict=True)
    ]
    page = live_report(Known(PIPELINE, await cells_of(spoilt), []))
    assert "Proven above all events together, by WAPE: a>3" in Read(page.html()).text
    sound = live_report(Known(PIPELINE, await cells_of(found), []))
    assert "None is proven above all events together" in Read(sound.html()).text


async def test_intervals_are_those_of_the_errors_themselves() -> None:
    found = examples(1200)
    total = Total.of(cell for cell in await cells_of(found) if not cell.slice)
    measures = total.measures()
    errors = np.array([one.score[0] - one.label for one in found])  # type: ignore[index]
    for name, values in (("mae", np.abs(errors)), ("mean_error", errors)):
        low, high = interval(total, name, measures[name])
        wide = 1.959964 * values.std() / np.sqrt(len(values))
        assert (low, high) == pytest.approx((values.mean() - wide, values.mean() + wide))
    assert interval(total, "rmse", 3.0) == (3.0, 3.0)


def test_a_challenger_is_shown_by_its_errors() -> None:
    section = comparison(amounts.declare(rollout=RollOut()), state(), records(*world()))
    [table] = section.tables
    assert table.head == ("Version", "WAPE", "MAE", "RMSE", "Pinball loss")
    assert [row[0] for row in table.rows] == ["1", "2"]
    assert float(table.rows[0][2]) < float(table.rows[1][2])
    waiting = LedgerState(
        champion=1, challenger=2, stage=Stage.SHADOW, versions={1: manifest(PIPELINE, 1, b"")}
    )
    assert "has matured yet" in comparison(PIPELINE, waiting, []).says
