"""How far a worker is behind: in records, in seconds, and the age of what it has in hand."""

from __future__ import annotations

import time
from collections.abc import Mapping

from streams import telemetry
from streams.engine.lanes import Lanes
from streams.ports.batches import TopicPartition


class LagGauges:
    """Sets a worker's gauges; those of partitions that it has given up are taken away."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._shown: set[TopicPartition] = set()

    def observe(self, at_broker: Mapping[TopicPartition, int], lanes: Lanes) -> None:
        """Take in, by assigned partition, how many records the client has not fetched yet."""
        for tp in self._shown - at_broker.keys():
            for gauge in (telemetry.LAG, telemetry.LAG_SECONDS):
                gauge.remove(*self._labels(tp))
        self._shown = set(at_broker)
        for tp, records in at_broker.items():
            waiting = lanes.waiting(tp)
            behind = records + waiting.records
            telemetry.LAG.labels(*self._labels(tp)).set(behind)
            age = time.time() - waiting.written if behind and waiting.written else 0.0
            telemetry.LAG_SECONDS.labels(*self._labels(tp)).set(max(0.0, age))
        oldest = lanes.oldest
        in_hand = 0.0 if oldest is None else time.monotonic() - oldest
        telemetry.OLDEST_SECONDS.labels(self._pipeline).set(in_hand)

    def _labels(self, tp: TopicPartition) -> tuple[str, str, str]:
        return self._pipeline, tp.topic, str(tp.partition)
