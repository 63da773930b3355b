"""Figures of a report against known numbers, and against computations on the scores themselves."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from streams.evaluation.totals import Total
from streams.records import Example
from streams.sums import Cell
from tests.unit.streams.evaluation.test_processor import DAY, T0, Topics, examples
from workers.evaluation.metrics import metric
from workers.reports.series import (
    by_version,
    curves,
    interval,
    of_slice,
    points,
    probability,
    reliability,
    wilson,
)


async def cells_of(found: list[Example]) -> list[Cell]:
    topics = Topics()
    await topics.count(await topics.evaluator(), found)
    return [*topics.cells().values()]


async def total_of(found: list[Example]) -> Total:
    return Total.of(of_slice(await cells_of(found)))


def arrays(found: list[Example]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([one.score for one in found]), np.array([one.label for one in found])


@pytest.mark.parametrize(
    ("share", "events", "expected"),
    [(0.8, 10, (0.4902, 0.9433)), (0.0, 20, (0.0, 0.1611)), (0.5, 0, (0.0, 1.0))],
)
def test_wilson(share: float, events: float, expected: tuple[float, float]) -> None:
    assert wilson(share, events) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["average_precision", "roc_auc"])
async def test_the_interval_is_that_of_a_bootstrap_of_the_events(name: str) -> None:
    found = examples(4000, days=0.9)
    total = await total_of(found)
    scores, labels = arrays(found)
    rng = np.random.default_rng(3)
    draws = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), 300)
    error = metric(name, scores, labels.astype(np.float32))(draws.astype(np.float64)).std()
    value = total.measures()[name]
    low, high = interval(total, name, value)
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.2)
    assert low < value < high


async def test_the_interval_narrows_as_labels_mature() -> None:
    few, many = await total_of(examples(1000)), await total_of(examples(16_000))
    for name in ("average_precision", "roc_auc", "precision", "recall", "accuracy"):
        ends = [interval(total, name, total.measures()[name]) for total in (few, many)]
        wide, narrow = (high - low for low, high in ends)
        assert 0.15 < narrow / wide < 0.4, name


async def test_steps_hold_every_event_once_and_the_newest_is_young() -> None:
    cells = of_slice(await cells_of(examples(3000, days=30.0)))
    for most in (5, 60):
        found = points(cells, most)
        assert len({point.start for point in found}) <= most
        assert sum(point.total.events for point in found) == 3000
        assert {p.start for p in found if p.young} == {max(p.start for p in found)}
        for point in found:
            mine = [c for c in cells if c.version == point.version]
            inside = [c for c in mine if point.start <= c.start < point.end]
            assert point.total.events == sum(cell.events for cell in inside)
    assert points([]) == []


async def test_buckets_of_another_length_than_before_are_joined() -> None:
    cells = of_slice(await cells_of(examples(300, days=4.0)))
    hours = [msgspec.structs.replace(c, start=c.start + 9 * DAY, span=3600.0) for c in cells]
    found = points(cells + hours)
    assert sum(point.total.events for point in found) == 600
    assert min(point.start for point in found) == T0


async def test_versions_are_added_up_apart() -> None:
    found = examples(900)
    for version, cells in by_version(of_slice(await cells_of(found))).items():
        assert sum(cell.events for cell in cells) == sum(one.version == version for one in found)


async def test_reliability_is_that_of_the_scores() -> None:
    found = examples(8000)
    scores, labels = arrays(found)
    told = reliability((await total_of(found)).rankings[1])
    tenths = np.minimum((scores * 10).astype(int), 9)
    for place, tenth in enumerate(np.unique(tenths)):
        rows = tenths == tenth
        assert told.score[place] == pytest.approx(scores[rows].mean(), abs=0.005)
        assert told.share[place] == pytest.approx(labels[rows].mean(), abs=0.03)
        assert told.low[place] <= told.share[place] <= told.high[place]


async def test_curves_are_those_of_the_scores() -> None:
    found = examples(8000)
    scores, labels = arrays(found)
    told = curves((await total_of(found)).rankings[1])
    assert len(told.recall) <= 150
    precision, recall, _ = precision_recall_curve(labels, scores)
    same = np.interp(told.recall, recall[::-1], precision[::-1])
    ours = told.recall > 0.02  # precision jumps at the first few events
    assert told.precision[ours] == pytest.approx(same[ours], abs=0.02)
    alarms, hits, _ = roc_curve(labels, scores)
    steep = told.false_alarms == 0
    assert told.recall[~steep] == pytest.approx(
        np.interp(told.false_alarms[~steep], alarms, hits), abs=0.02
    )
    assert (told.recall[-1], told.false_alarms[-1]) == (1.0, 1.0)


def test_log_odds_are_probabilities() -> None:
    assert probability(np.array([0.0, np.log(9)])) == pytest.approx([0.5, 0.9])
