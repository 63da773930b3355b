"""Brings back what the feature state has lost: a partition's latest events, or everything.

Partitions share entities, and a state that was lost has lost the events of all of them. So whoever
finds it out folds all partitions again, not only its own: the fences let several workers do so at
once. Labels come back from the labellers. Until all of it is there, nothing is scored.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

import structlog

from streams.aio.retrying import until_available
from streams.errors import StateBehind, StateLost
from streams.ports.batches import MicroBatch, Progress, ReadRange
from streams.ports.features import FeatureState
from streams.scoring.decoding import Decoder
from streams.scoring.folds import fold_batches
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

_LABELS_WAIT = 60.0
"""Seconds after which events are scored though no labeller has brought its labels back."""
_LOOK_AGAIN = 0.25
_SAY_EVERY = 10.0

T = TypeVar("T")


class Restoration:
    """Restores the feature state of one pipeline; a worker's partitions share it."""

    def __init__(
        self,
        pipeline: Pipeline,
        state: FeatureState,
        decoder: Decoder,
        read_range: ReadRange,
        progress: Progress | None = None,
    ) -> None:
        """Without `progress` there are no other partitions, and no labels from elsewhere."""
        self._pipeline = pipeline
        self._state = state
        self._decoder = decoder
        self._read_range = read_range
        self._progress = progress
        self._one_at_a_time = asyncio.Lock()

    async def partition(self, number: int, end: int, committed: int) -> None:
        """Fold a partition's events up to `end`; answers from `committed` on are kept."""
        said, began = False, time.monotonic()
        while (folded := await self._position(number)) < end:
            if not said:
                log.warning(
                    "feature state lacks events, counting them again from their topic",
                    partition=number,
                    folded=folded,
                    expected=end,
                )
            said = True
            try:
                await self._refold(number, folded, end, committed)
            except (StateBehind, StateLost):
                continue  # it was lost again, or another worker folds the partition, too
        if said:
            took = round(time.monotonic() - began, 1)
            log.info("its events are counted", partition=number, expected=end, seconds=took)

    async def whole(self, first: int) -> None:
        """Return once nothing is missing of what any partition has committed; begin with `first`.

        Labels that no labeller brings back are waited for, for a minute: that is said.
        """
        async with self._one_at_a_time:
            while not await self._until_available(self._state.whole):
                await self._restore(first)

    async def _restore(self, first: int) -> None:
        ends: Mapping[int, int] = {}
        if self._progress is not None:
            ends = await self._until_available(self._progress.scored)
        # each worker begins with another one: they share the work
        for number in sorted(ends, key=lambda other: (other < first, other)):
            await self.partition(number, ends[number], ends[number])
        if any(ends.values()):
            await self._labels()
        await self._until_available(lambda: self._state.declare_whole(ends))

    async def _refold(self, number: int, position: int, end: int, committed: int) -> None:
        topic, plan = self._pipeline.topics.events, self._pipeline.plan
        async for records in self._read_range(topic, number, position, end):
            kept = min(position, committed)
            batch = MicroBatch(topic, number, records, position, kept)
            decoded = self._decoder.decode(records)
            [request] = fold_batches(plan, [batch], decoded, [len(decoded.ids)])
            await self._until_available(partial(self._state.fold, request))
            position = batch.next
        await self._until_available(lambda: self._state.reposition(number, end))

    async def _labels(self) -> None:
        """Wait until labellers have folded the labels of all partitions again."""
        if self._progress is None or not self._pipeline.plan.label_keys:
            return
        stream, numbers = await self._until_available(self._progress.labelled)
        began, said = time.monotonic(), -math.inf
        while missing := [number for number in numbers if not await self._marked(number, stream)]:
            now = time.monotonic()
            if now - began > _LABELS_WAIT:
                log.error(
                    "feature state was lost and labels are missing, scoring without them - start "
                    "a labeller: it folds them again",
                    partitions=missing,
                )
                return
            if now - said > _SAY_EVERY:
                log.warning(
                    "feature state was lost, waiting for labels of its windows", partitions=missing
                )
                said = now
            await asyncio.sleep(_LOOK_AGAIN)

    async def _marked(self, number: int, stream: str) -> bool:
        note = await self._until_available(lambda: self._state.label_note(number, stream))
        return bool(note)

    async def _position(self, number: int) -> int:
        return await self._until_available(lambda: self._state.position(number)) or 0

    async def _until_available(self, call: Callable[[], Awaitable[T]]) -> T:
        return await until_available(self._pipeline.name, "fold", call)
