"""The label windows of one partition: folded after each commit, never ahead of it.

Which events and labels have met depends on the order in which the two topics were read, but not
once both were read up to the same offsets. So a fold stands for a pair of offsets, and the feature
state keeps that pair: the fence is their sum, which grows with every commit, and the note holds
the two themselves.
"""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from streams import telemetry
from streams.aio.retrying import until_available
from streams.errors import StateBehind
from streams.labelling.join import LabelChange
from streams.ports.features import FeatureState, LabelBatch, LabelsFolded, label_stream
from streams.records import Scored, decoder
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

_NOTE = struct.Struct("<QQ")
"""The next offsets of `P.scored` and `P.feedback`."""
_MARK_EVERY = 10_000
"""The fence moves after this many records, even if no label has met an event."""

_LOOK_AGAIN = 0.25
_SAY_EVERY = 10.0
"""Seconds between two looks, and between two lines, while labels wait for their events."""
_NOBODY = b"\xff"
"""No entity's name: an event that was served before its key had label windows is in none."""

_decode_scored = decoder(Scored).decode

T = TypeVar("T")

ScoredTo = Callable[[int], Awaitable[int]]
"""The offset of the events topic up to which a partition is scored, and that is committed."""
FindLost = Callable[[Mapping[str, int]], Awaitable[list[LabelChange]]]
"""Offsets by topic that the windows reach -> label changes that the store has beyond them."""


class LabelWindows:
    """Adds label changes to the windows of their events' entities, each once."""

    def __init__(
        self,
        pipeline: Pipeline,
        partition: int,
        state: FeatureState,
        find_lost: FindLost,
        topic_ids: str = "",
        scored_to: ScoredTo | None = None,
    ) -> None:
        self._stream = label_stream(topic_ids)
        self._scored_to = scored_to
        self._name = pipeline.name
        self._topics = (pipeline.topics.scored, pipeline.topics.feedback)
        self._keys = pipeline.plan.label_keys
        self._classes = np.array(pipeline.plan.classes, np.float64)
        self._partition = partition
        self._state = state
        self._find_lost = find_lost
        self._waiting: list[LabelChange] = []
        self._fence = 0
        """The fence as this worker knows it; after a crash the feature state's may be lower."""
        self._marked = False
        """Whether the feature state has a note: scoring workers wait for one after a loss."""

    @property
    def needed(self) -> bool:
        """Whether the pipeline has any window of labels."""
        return bool(self._keys)

    def add(self, changes: Iterable[LabelChange]) -> None:
        """Take in changes, to be folded after the next commit."""
        if self.needed:
            self._waiting += changes

    async def reached(self) -> dict[str, int]:
        """The next offset by topic up to which labels that have met their events are folded."""
        note = await self._note()
        marks = _NOTE.unpack(note) if note else (0, 0)
        self._fence, self._marked = sum(marks), bool(note)
        return dict(zip(self._topics, marks, strict=True))

    async def lost(self) -> bool:
        """Whether the feature state knows nothing of the labels that were folded."""
        return self.needed and not await self._note()

    async def restore(self, positions: Mapping[str, int]) -> None:
        """Fold the labels of these committed positions again.

        Changes that wait, or come meanwhile, belong to positions that are not committed yet: they
        go on waiting.
        """
        if self.needed:
            await self._fold([], positions)

    async def wait_for_lost_events(self) -> None:
        """As `wait_for_events`, where the feature state knows nothing of the partition."""
        read = partial(self._state.position, self._partition)
        if self.needed and await self._until_available(read) is None:
            await self.wait_for_events()

    async def wait_for_events(self) -> None:
        """Return once the feature state has every event that was scored.

        State that was lost gets its events back from the scoring workers. A label that is folded
        before them finds none, and would be missing from then on.
        """
        if self._scored_to is None or not self.needed:
            return
        wanted, said = await self._scored_to(self._partition), -math.inf
        while True:
            read = partial(self._state.position, self._partition)
            if (found := await self._until_available(read) or 0) >= wanted:
                return
            if time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                log.warning(
                    "feature state lacks events, labels wait until scorers have counted them again",
                    partition=self._partition,
                    folded=found,
                    expected=wanted,
                )
            await asyncio.sleep(_LOOK_AGAIN)

    async def fold(self, positions: Mapping[str, int]) -> None:
        """Fold what waits, and remember the committed positions (by topic) that it stands for."""
        total = sum(positions.get(topic, 0) for topic in self._topics)
        due = self._waiting or total >= self._fence + _MARK_EVERY or not self._marked
        if not self.needed or not due:
            return
        changes = list(self._waiting)
        await self._fold(changes, positions)
        del self._waiting[: len(changes)]

    async def _fold(self, changes: Sequence[LabelChange], positions: Mapping[str, int]) -> None:
        marks = tuple(positions.get(topic, 0) for topic in self._topics)
        folded = await self._fold_after_lost(changes, marks)
        telemetry.LABELS.labels(self._name, "window_late").inc(folded.late)
        telemetry.LABELS.labels(self._name, "window_expired").inc(folded.expired)
        self._fence, self._marked = sum(marks), True

    async def _fold_after_lost(
        self, changes: Sequence[LabelChange], marks: tuple[int, ...]
    ) -> LabelsFolded:
        """Fold; windows that have lost their latest labels meanwhile get them back with it."""
        lost: list[LabelChange] = []
        while True:
            batch = self._batch([*lost, *changes], marks)
            try:
                return await self._until_available(partial(self._state.fold_labels, batch))
            except StateBehind as behind:
                log.warning(
                    "feature state lacks labels, counting them again",
                    partition=self._partition,
                    folded=behind.folded,
                    expected=batch.first,
                )
                await self.wait_for_events()
                lost = await self._find_lost(await self.reached())

    async def _note(self) -> bytes:
        read = partial(self._state.label_note, self._partition, self._stream)
        return await self._until_available(read)

    def _batch(self, changes: list[LabelChange], marks: tuple[int, ...]) -> LabelBatch:
        scored, total = [_decode_scored(one.event.payload) for one in changes], sum(marks)
        entities = [self._entities(served) for served in scored]
        before, now = (np.array([one[at] for one in changes], np.float64) for at in (1, 2))
        return LabelBatch(
            partition=self._partition,
            next=total,
            offsets=np.full(len(changes), total - 1, np.int64),
            times=np.array([served.event_time for served in scored]).astype(np.uint32),
            entities=[[named.get(key, _NOBODY) for named in entities] for key in self._keys],
            deltas=now - before,
            by_class=self._of(now) - self._of(before) if self._classes.size else None,
            stream=self._stream,
            first=self._fence,
            note=_NOTE.pack(*marks),
        )

    def _of(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """[n, classes] 1 where a label is of the class; of class 0, where it is of another."""
        one, other = labels[:, None] == self._classes, labels[:, None] != 0
        found: NDArray[np.float64] = np.where(self._classes, one, other).astype(np.float64)
        return found

    def _entities(self, served: Scored) -> dict[str, bytes]:
        """The names of its entities by key field, those of which the pipeline knows now."""
        named = served.entities
        if isinstance(named, list):
            named = dict(zip(self._keys, named, strict=False))
        return {key: name.encode() for key, name in named.items()}

    async def _until_available(self, call: Callable[[], Awaitable[T]]) -> T:
        return await until_available(self._name, "fold", call)
