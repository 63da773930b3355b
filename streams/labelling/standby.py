"""A standby for the label stores of partitions that other workers have.

A worker that takes a partition over reads the topics from where its store ends: without a copy, it
reads everything they hold. So each labeller keeps a copy of every store that it does not own. The
copy is a little behind what is committed and never ahead of it, so it is a store like any other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping

import structlog

from streams import telemetry
from streams.errors import Busy, Unavailable
from streams.labelling.join import Join
from streams.ports.batches import GroupOffsets, ReadRange
from streams.ports.labels import LabelStore
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

_EVERY = 2.0
"""Seconds between two rounds."""
_BEHIND = 4096
"""A copy may lack this many records: opening it and reading for fewer is not worth it."""
_HELD = 16_384
"""After this many records of a topic a store is closed, in case another process needs it."""
_STEP = 512
"""Records that are joined without a pause."""


class Standby:
    """Keeps copies of the stores of partitions that this worker does not own."""

    def __init__(
        self,
        pipeline: Pipeline,
        open_store: Callable[[int], LabelStore],
        committed: GroupOffsets,
        read_range: ReadRange,
    ) -> None:
        self._pipeline = pipeline
        self._open_store = open_store
        self._committed = committed
        self._read_range = read_range
        self._reached: dict[int, dict[str, int]] = {}
        """Where each copy ended when it was last closed."""
        self._refused: set[int] = set()
        """Copies that could not be opened; each is logged once."""

    async def run(self, owned: Collection[int]) -> None:
        """Follow the others' partitions until cancelled; waits while Kafka is away."""
        for partition in owned:  # its store is the lane's, and no copy
            self._reached.pop(partition, None)
            self._observe(partition, 0)
        while True:
            try:
                await self.follow(owned)
            except Unavailable as error:
                log.warning("standby waits", error=str(error))
            await asyncio.sleep(_EVERY)

    async def follow(self, owned: Collection[int]) -> None:
        """One round: each copy that is behind is brought up to what is committed now.

        Raises:
            Unavailable: Kafka does not say what is committed.
        """
        ends: dict[int, dict[str, int]] = {}
        for tp, offset in (await self._committed()).items():
            if tp.partition not in owned:
                ends.setdefault(tp.partition, {})[tp.topic] = offset or 0
        for partition, committed in ends.items():
            try:
                while self._lag(partition, committed) >= _BEHIND:
                    await self._catch_up(partition, committed)
                self._refused.discard(partition)
            except Busy as error:  # its owner shares our disk and needs no copy
                if partition not in self._refused:
                    log.info("no copy of a label store", partition=partition, reason=str(error))
                self._refused.add(partition)

    def _lag(self, partition: int, committed: Mapping[str, int]) -> int:
        """Records that the copy lacks; opens it once to ask."""
        if partition not in self._reached:
            store = self._open_store(partition)
            self._reached[partition] = store.positions
            store.close()
        reached = self._reached[partition]
        lag = sum(max(0, end - reached.get(topic, 0)) for topic, end in committed.items())
        self._observe(partition, lag)
        return lag

    def _observe(self, partition: int, lag: int) -> None:
        telemetry.STANDBY_LAG.labels(self._pipeline.name, str(partition)).set(lag)

    async def _catch_up(self, partition: int, committed: Mapping[str, int]) -> None:
        store = self._open_store(partition)
        try:
            join = Join(self._pipeline, store)
            topics = self._pipeline.topics
            for topic in (topics.scored, topics.feedback):  # labels that find their event cost less
                first, end = join.positions.get(topic, 0), committed.get(topic, 0)
                await self._read(join, topic, partition, first, min(end, first + _HELD))
        finally:
            self._reached[partition] = store.positions
            store.close()

    async def _read(self, join: Join, topic: str, partition: int, first: int, end: int) -> None:
        """Join a range of a topic, in no more than half of the worker's time."""
        if first >= end:
            return
        async for records in self._read_range(topic, partition, first, end):
            for start in range(0, len(records), _STEP):
                begun = time.monotonic()
                join.replay(topic, records[start : start + _STEP])
                join.commit()
                await asyncio.sleep(time.monotonic() - begun)
        join.positions[topic] = end
        join.commit()
