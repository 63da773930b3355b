"""Cells of predicted numbers: equal to brute force, restated by corrections, and they add up."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from streams.evaluation.recent import RecentQuality
from streams.evaluation.totals import Total
from streams.records import Example
from streams.spec.layout import pack
from streams.sums import Cell
from tests import amounts
from tests.reference.quality import by_cell, value_measures
from tests.unit.streams.evaluation.test_processor import DAY, T0, Topics, corrected

PIPELINE = amounts.pipeline


def examples(count: int, days: float = 2.0) -> list[Example]:
    """Matured events of three versions, with scores that err."""
    random = np.random.default_rng(4)
    vectors, labels = amounts.drawn(count, seed=8)
    labels[::9] = 0.0
    labels[::7] *= -1.0
    points = labels + random.normal(0, 20, count)
    ends = points[:, None] + np.sort(random.normal(0, 30, (count, 3)), axis=1)
    times = T0 + np.sort(random.uniform(0, days * DAY, count))
    return [
        Example(
            event_id=f"o{i}",
            event_time=float(times[i]),
            vector=vector,
            score=[float(points[i]), *ends[i].tolist()],
            version=i % 3,
            label=float(labels[i]),
            labelled_at=float(times[i]) + 600,
            origin="feedback" if i % 3 else "horizon",
            key=f"machine-{i % 7}",
        )
        for i, vector in enumerate(pack(vectors))
    ]


def check_against_brute_force(topics: Topics, counted: Iterable[Example]) -> None:
    truth, cells = by_cell(topics.pipeline, counted), topics.cells()
    assert cells.keys() == truth.keys()
    for name, cell in cells.items():
        expected, found = value_measures(truth[name], amounts.QUANTILES), measured([cell])
        assert cell.events == len(truth[name])
        assert found.keys() - {"coverage", "label_delay"} == expected.keys()
        for metric, value in expected.items():
            assert found[metric] == pytest.approx(value, rel=1e-9, abs=1e-9), (name, metric)


def measured(cells: Iterable[Cell]) -> dict[str, float]:
    return Total.of(cells).measures()


async def test_cells_are_those_of_brute_force_and_corrections_restate_them() -> None:
    topics, found = Topics(PIPELINE), examples(2000)
    evaluator = await topics.evaluator()
    await topics.count(evaluator, found[:1200])
    await topics.count(evaluator, found[1200:])
    assert topics.letters == []
    assert {slice_ for _, _, slice_ in topics.cells()} == {"", "a>3"}
    check_against_brute_force(topics, found)
    later = [corrected(one, one.label * 2 - 30.5) for one in found[::5]]
    await topics.count(await topics.evaluator(), later)  # as after a restart
    check_against_brute_force(topics, [*found, *later])


async def test_cells_add_up_to_all_events() -> None:
    topics, found = Topics(PIPELINE), examples(900)
    await topics.count(await topics.evaluator(), found)
    cells = [cell for (_, _, name), cell in topics.cells().items() if not name]
    assert len(cells) > 3
    expected = value_measures(found, amounts.QUANTILES)
    total = measured(cells)
    assert {name: total[name] for name in expected} == pytest.approx(expected, rel=1e-9)


async def test_what_is_no_number_is_set_aside() -> None:
    topics, [good] = Topics(PIPELINE), examples(1)
    few = msgspec.structs.replace(good, score=[1.0, 2.0])
    await topics.count(await topics.evaluator(), [good, few])
    assert len(topics.letters) == 1
    assert sum(cell.events for (*_, name), cell in topics.cells().items() if not name) == 1


async def test_a_label_of_nothing_but_zeros_has_no_share_of_error() -> None:
    topics, found = Topics(PIPELINE), examples(20)
    zeros = [msgspec.structs.replace(one, label=0.0, version=1) for one in found]
    await topics.count(await topics.evaluator(), zeros)
    total = measured(cell for (*_, name), cell in topics.cells().items() if not name)
    assert "wape" not in total
    assert math.isfinite(total["mae"])


async def test_gauges_tell_errors_and_coverage() -> None:
    topics, found = Topics(PIPELINE), examples(600, days=3)
    evaluator = await topics.evaluator()
    await topics.count(evaluator, found)
    RecentQuality("amounts").observe({0: evaluator.cells})
    complete = [one for one in found if one.event_time < T0 + 2 * DAY and one.version == 1]
    expected = value_measures(complete, amounts.QUANTILES)
    for name in ("mae", "wape", "below_0.95"):
        labels = {"pipeline": "amounts", "version": "1", "measure": name}
        found_value = REGISTRY.get_sample_value("driftloop_live_quality", labels)
        assert found_value == pytest.approx(expected[name])
