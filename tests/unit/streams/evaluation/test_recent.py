"""Gauges of recent quality: complete buckets alone, every partition, versions that go."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import REGISTRY

from streams.evaluation.recent import BUCKETS, RecentQuality
from streams.evaluation.totals import Total
from streams.sums import Cell
from tests.unit.streams.evaluation.test_processor import DAY, T0, Topics, examples


def gauge(version: int, measure: str) -> float | None:
    labels = {"pipeline": "orders", "version": str(version), "measure": measure}
    return REGISTRY.get_sample_value("driftloop_live_quality", labels)


def events(version: int) -> float | None:
    labels = {"pipeline": "orders", "version": str(version)}
    return REGISTRY.get_sample_value("driftloop_live_events", labels)


async def counted(days: float, seed: int = 0) -> list[Cell]:
    topics = Topics()
    await topics.count(await topics.evaluator(), examples(4000, seed, days))
    return [*topics.cells().values()]


async def test_gauges_tell_of_the_last_complete_buckets_of_every_partition() -> None:
    here, there = await counted(12.0), await counted(12.0, seed=1)
    RecentQuality("orders").observe({0: here, 1: there})
    first, after = T0 + (11 - BUCKETS) * DAY, T0 + 11 * DAY
    recent = [c for c in here + there if not c.slice and first <= c.start < after]
    for version in (0, 1, 2):
        total = Total.of(cell for cell in recent if cell.version == version)
        measures = total.measures()
        assert events(version) == total.events > 500
        for name in ("average_precision", "roc_auc", "precision", "recall", "bias"):
            assert gauge(version, name) == pytest.approx(measures[name])


async def test_a_lagging_partition_is_complete_up_to_its_own_newest_bucket() -> None:
    ahead, behind = await counted(3.0), await counted(2.0, seed=1)
    RecentQuality("orders").observe({0: ahead, 1: behind})
    told = [c for c in ahead if c.start < T0 + 2 * DAY] + [c for c in behind if c.start < T0 + DAY]
    assert events(1) == sum(c.events for c in told if c.version == 1 and not c.slice)


async def test_gauges_of_versions_that_serve_no_more_go() -> None:
    cells, quality = await counted(3.0), RecentQuality("orders")
    quality.observe({0: cells})
    assert gauge(2, "recall") is not None
    left = [c for c in cells if c.version != 2]
    newer = msgspec.structs.replace(left[0], next=left[0].next + 1)
    quality.observe({0: [newer, *left[1:]]})
    assert gauge(1, "recall") is not None
    assert gauge(2, "recall") is None
    assert events(2) is None


async def test_nothing_is_computed_where_nothing_was_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells, quality = await counted(3.0), RecentQuality("orders")
    quality.observe({0: cells})
    monkeypatch.setattr(Total, "of", None)
    quality.observe({0: cells})
    quality.observe({})
