"""Window features of one partition's events: each event counts once, whatever Redis has lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import structlog

from streams import telemetry
from streams.aio.retrying import until_available
from streams.errors import StateBehind
from streams.ports.features import LEFT_EVENTS, MOST_EVENTS, FeatureState, FoldBatch, Folded
from streams.scoring.decoded import Decoded
from streams.scoring.restoration import Restoration
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Folding:
    """Folds one partition's events, and has brought back what the feature state has lost."""

    def __init__(
        self, pipeline: Pipeline, partition: int, state: FeatureState, restoration: Restoration
    ) -> None:
        self._pipeline = pipeline
        self.partition = partition
        self._state = state
        self._restoration = restoration
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
        if self._stateful:
            end = committed.get(self._pipeline.topics.events) or 0
            await self._restoration.partition(self.partition, end, end)
            await self._restoration.whole(self.partition)

    async def fold(self, batch: FoldBatch) -> Folded:
        """Fold; a state that has lost events meanwhile gets them back first."""
        if not self._stateful:
            n = len(batch.offsets)
            return Folded(np.empty((n, self._pipeline.plan.width)), np.zeros(n, np.bool_))
        batch = replace(batch, whole=True)
        while True:
            try:
                return await self._until_available(lambda: self._state.fold(batch))
            except StateBehind:
                await self._restoration.partition(self.partition, batch.first, batch.committed)
                await self._restoration.whole(self.partition)

    async def _until_available(self, call: Callable[[], Awaitable[T]]) -> T:
        return await until_available(self._pipeline.name, "fold", call)


class Duplicates:
    """Counts the events whose id came before, and says once that they are dropped."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._name = pipeline.name
        self._within = pipeline.cleaning.duplicates
        self._said = False

    def observe(self, ids: Sequence[str]) -> None:
        """Count such events, by their ids."""
        telemetry.DUPLICATES.labels(self._name).inc(len(ids))
        if ids and not self._said:
            log.info("events whose id came before are dropped", id=ids[0], within=self._within)
        self._said |= bool(ids)


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
