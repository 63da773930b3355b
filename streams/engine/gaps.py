"""Says what a hole in the offsets is: nothing, or records that retention deleted unread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from aiokafka.errors import KafkaError

from streams import telemetry
from streams.ports.batches import TopicPartition

log = structlog.get_logger(__name__)

LogStart = Callable[[TopicPartition], Awaitable[int]]
"""The first offset that a partition still holds. Raises `KafkaError`."""
_MARKERS = 1
"""A transaction leaves so many offsets without a record: no reason to ask the broker."""


class Gaps:
    """Counts the records of one pipeline that were deleted before they were read."""

    def __init__(self, pipeline: str, log_start: LogStart) -> None:
        self._pipeline = pipeline
        self._log_start = log_start

    async def observe(self, tp: TopicPartition, position: int, first: int) -> None:
        """Look into the offsets from `position` to `first`, which were not delivered."""
        if first - position <= _MARKERS:
            return
        try:
            start = await self._log_start(tp)
        except KafkaError as error:
            log.warning("cannot see why offsets are missing", at=position, error=repr(error))
            return
        if (lost := min(start, first) - position) > 0:
            telemetry.TRIMMED.labels(self._pipeline, tp.topic).inc(lost)
            log.error(
                "records were deleted by retention before they were read - keep them longer "
                "(retention.ms), or add workers",
                topic=tp.topic,
                partition=tp.partition,
                offsets=f"{position}-{position + lost}",
                records=lost,
            )
