"""The group's committed offsets, as a worker may rely on them: they never go back.

A coordinator that has just been elected may answer from part of its offsets (docs/guarantees.md,
"Brokers"). Starting from these would score events a second time.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from streams.ports.batches import FindCommitted, Offsets, TopicPartition

log = structlog.get_logger(__name__)

_WAIT_SECONDS = 0.25


class StaleOffsets(Exception):
    """The broker answers with an offset below one that it acknowledged before."""


class CommittedOffsets:
    """Asks for committed offsets until they are no older than what this process knows of."""

    def __init__(self, ask: FindCommitted) -> None:
        self._ask = ask
        self._known: dict[TopicPartition, int] = {}

    def acknowledge(self, positions: Mapping[TopicPartition, int]) -> None:
        """Remember what the broker says is committed."""
        for tp, at in positions.items():
            self._known[tp] = max(at, self._known.get(tp, 0))

    async def find(self, partitions: set[TopicPartition]) -> Offsets:
        """The offset of each partition, None where none is committed; waits while they are old."""
        patiently = AsyncRetrying(
            retry=retry_if_exception_type(StaleOffsets),
            wait=wait_exponential(multiplier=_WAIT_SECONDS, max=5),
            before_sleep=_complain,
        )
        return await patiently(self._find, partitions)

    async def _find(self, partitions: set[TopicPartition]) -> Offsets:
        found = await self._ask(partitions)
        for tp, at in found.items():
            known = self._known.get(tp, 0)
            if (at or 0) < known:
                raise StaleOffsets(
                    f"Kafka says {'nothing' if at is None else at} is committed for partition "
                    f"{tp.partition} of {tp.topic}, where {known} was - restart the broker that "
                    "coordinates the group, or this worker if the topic was deleted, or the "
                    "offsets were reset on purpose"
                )
        self.acknowledge({tp: at for tp, at in found.items() if at is not None})
        return found


def _complain(state: RetryCallState) -> None:
    assert state.outcome is not None
    log.error("committed offsets went back", error=str(state.outcome.exception()))
