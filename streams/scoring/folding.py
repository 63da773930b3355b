"""Window features of one partition's events: each event counts once, whatever Redis has lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import structlog

from streams import telemetry
from streams.aio.retrying import until_available
from streams.errors import StateBehind
from streams.ports.batches import MicroBatch, ReadRange
from streams.ports.features import (
    LEFT_EVENTS,
    MOST_EVENTS,
    FeatureState,
    FoldBatch,
    Folded,
)
from streams.scoring.decoding import Decoded, Decoder
from streams.spec import Pipeline
from streams.spec.windows import FoldPlan

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Folding:
    """Folds one partition's events, and brings back what the feature state has lost of them."""

    def __init__(
        self,
        pipeline: Pipeline,
        partition: int,
        state: FeatureState,
        decoder: Decoder,
        read_range: ReadRange,
    ) -> None:
        self._pipeline = pipeline
        self.partition = partition
        self._state = state
        self._decoder = decoder
        self._read_range = read_range
        self._stateful = any(plan.kept for plan in pipeline.plan.keys)

    @property
    def topic(self) -> str:
        """Where its events come from."""
        return self._pipeline.topics.events

    async def answered(self) -> int:
        """The first offset that may be asked for again, as far as the feature state goes."""
        if not self._stateful:
            return 0
        return await self._until_available(lambda: self._state.answered(self.partition)) or 0

    async def open(self, committed: Mapping[str, int | None]) -> None:
        """Refold what the feature state has lost of the committed events.

        State that is ahead of the committed offset (a crash between fold and commit) needs
        nothing: a repeated fold returns its first answer.
        """
        end = committed.get(self._pipeline.topics.events)
        if end is not None and self._stateful:
            await self._refold(end, end)

    async def fold(self, batch: FoldBatch) -> Folded:
        """Fold; a state that has lost its latest events meanwhile gets them back first."""
        if not self._stateful:
            n = len(batch.offsets)
            return Folded(np.empty((n, self._pipeline.plan.width)), np.zeros(n, np.bool_))
        while True:
            try:
                return await self._until_available(lambda: self._state.fold(batch))
            except StateBehind:
                await self._refold(batch.first, batch.committed)

    async def _refold(self, end: int, committed: int) -> None:
        """Bring state that is behind up to `end`; answers from `committed` on are kept."""
        topic, plan = self._pipeline.topics.events, self._pipeline.plan
        folded = await self._until_available(lambda: self._state.position(self.partition))
        position = folded or 0
        if position >= end:
            return
        log.warning(
            "feature state is behind, refolding",
            partition=self.partition,
            folded=position,
            expected=end,
        )
        async for records in self._read_range(topic, self.partition, position, end):
            kept = min(position, committed)
            batch = MicroBatch(topic, self.partition, records, position, kept)
            decoded = self._decoder.decode(records)
            [request] = fold_batches(plan, [batch], decoded, [len(decoded.ids)])
            await self.fold(request)
            position = batch.next
        await self._until_available(lambda: self._state.reposition(self.partition, end))

    async def _until_available(self, call: Callable[[], Awaitable[T]]) -> T:
        return await until_available(self._pipeline.name, "fold", call)


class HotEntities:
    """Says, once for each key, that an entity has more events than are kept."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._name = pipeline.name
        self._counts = {key: list(places) for key, places in pipeline.plan.counts.items() if places}
        self._said: set[str] = set()

    def observe(self, decoded: Decoded, folded: Folded) -> None:
        """Look at the windows of events that were folded."""
        for key, places in self._counts.items():
            counts = folded.aggregates[:, places].max(axis=1, initial=0)
            if not (hot := np.flatnonzero(counts >= LEFT_EVENTS)).size:
                continue
            telemetry.HOT_EVENTS.labels(self._name, key).inc(hot.size)
            if key not in self._said:
                log.error(
                    "an entity has more events than are kept, its windows count the latest only",
                    key=key,
                    entity=decoded.entities[key][int(hot[0])],
                    kept=MOST_EVENTS,
                )
            self._said.add(key)


def fold_batches(
    plan: FoldPlan, batches: Sequence[MicroBatch], decoded: Decoded, sizes: Sequence[int]
) -> list[FoldBatch]:
    """The fold of each micro-batch of several that were decoded together, with `sizes` events."""
    offsets = np.array([record.offset for record in decoded.records], np.int64)
    ids, times = decoded.hashes(), decoded.times.astype(np.uint32)
    entities = [list(map(str.encode, decoded.entities[key.key])) for key in plan.keys]
    columns = [decoded.columns[value] for value in plan.values]
    values = np.stack(columns, 1) if columns else np.empty((len(offsets), 0))
    found, start = list[FoldBatch](), 0
    for batch, size in zip(batches, sizes, strict=True):
        rows = slice(start, start := start + size)
        found.append(
            FoldBatch(
                partition=batch.partition,
                first=batch.first,
                next=batch.next,
                offsets=offsets[rows],
                ids=ids[rows],
                times=times[rows],
                entities=[names[rows] for names in entities],
                values=values[rows],
                committed=batch.committed,
            )
        )
    return found
