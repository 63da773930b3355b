"""The evaluator's application: now and then it says how good versions have been lately."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from streams.evaluation.recent import RecentQuality
from streams.ports.batches import MicroBatch, SourceRecord
from streams.settings import Settings
from streams.wiring import evaluation
from tests.unit.streams.evaluation.test_processor import DAY, PIPELINE, T0, examples, record
from tests.unit.streams.evaluation.test_recent import events, gauge


async def test_gauges_are_set_from_every_partition_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nothing(*_: object) -> Iterable[SourceRecord]:
        return []

    monkeypatch.setattr(evaluation, "read_partition", nothing)
    parts = evaluation._EvaluationParts(Settings(kafka="none:1"), PIPELINE)
    counted = examples(3000, days=3.0)
    for partition in (0, 1):
        processor = parts.processor(partition)
        await processor.open({})
        mine = counted[partition::2]
        topic = PIPELINE.topics.examples
        records = [record(topic, i, one) for i, one in enumerate(mine)]
        await processor.process(MicroBatch(topic, partition, records, 0, len(records)))
    await parts.look()
    complete = [one for one in counted if one.event_time < T0 + 2 * DAY]
    assert events(1) == sum(one.version == 1 for one in complete)
    assert gauge(1, "recall") is not None

    looked = list[object]()
    monkeypatch.setattr(RecentQuality, "observe", lambda _, found: looked.append(found))
    await parts.look()
    assert looked == []  # it is too soon
    monkeypatch.setattr(evaluation, "_QUALITY_SECONDS", 0.0)
    eager = evaluation._EvaluationParts(Settings(kafka="none:1"), PIPELINE)
    for _ in range(2):
        await eager.look()
    assert len(looked) == 2
