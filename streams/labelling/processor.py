"""The labeller's work on one partition: the join, its store, and the label windows.

The store on disk is never ahead of the committed offsets: changes are kept in memory until the
outputs are committed. A store that is behind is brought up to date from the topics before the
first batch (`recovery`). Label windows, too, are folded after the commit (`windows`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import structlog

from streams import telemetry
from streams.aio.cancelling import cancel
from streams.aio.retrying import until_available
from streams.breaker import FirstOfEachCause, InvalidBreaker
from streams.dead_letters import Rejected, dead_letter
from streams.labelling.homes import Homes
from streams.labelling.join import Join
from streams.labelling.recovery import Recovery
from streams.labelling.windows import LabelWindows, ScoredTo
from streams.ports.batches import (
    MicroBatch,
    OutputRecord,
    Outputs,
    ReadRange,
    SourceRecord,
    TopicPartition,
)
from streams.ports.features import FeatureState
from streams.ports.labels import LabelStore, ServedEvent
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

_PASSED_ON = "passed-on-from"
"""Header of a label that came on another partition."""
_IN_USE = 10.0
"""Seconds to wait for a store that its former owner, or a standby, still has open."""


class _Opened(NamedTuple):
    store: LabelStore
    join: Join
    windows: LabelWindows


class Labelling:
    """Joins one partition's `P.scored` and `P.feedback` into `P.examples`."""

    def __init__(
        self,
        pipeline: Pipeline,
        partition: int,
        open_store: Callable[[], LabelStore],
        state: FeatureState,
        read_range: ReadRange,
        topic_ids: str = "",
        scored_to: ScoredTo | None = None,
        homes: Homes | None = None,
    ) -> None:
        """`topic_ids` names the two topics' ids: topics that are made anew have other fences."""
        self._scored_to = scored_to
        self._homes = homes or Homes()
        self._said = False
        self._pipeline = pipeline
        self._partition = partition
        self._open_store = open_store
        self._state = state
        self._read_range = read_range
        self._topic_ids = topic_ids
        self._breaker = InvalidBreaker(pipeline, pipeline.topics.feedback, partition)
        self._bad_scored = FirstOfEachCause(pipeline.topics.scored)
        self._opened: _Opened | None = None
        self._folding = asyncio.Lock()
        self._restoring: asyncio.Task[None] | None = None

    async def open(self, committed: Mapping[str, int | None]) -> Mapping[str, int]:
        """Open the store, and bring it and the label windows up to the committed offsets.

        It goes on where the store ends in topics of which nothing is committed: examples of the
        last moments before that may come again.

        Raises:
            Busy: another process has the store, for ten seconds already.
        """

        async def open_store() -> LabelStore:
            return self._open_store()

        pipeline, partition = self._pipeline, self._partition
        store = await until_available(pipeline.name, "open", open_store, time.monotonic() + _IN_USE)
        join = Join(pipeline, store)
        recovery = Recovery(pipeline, partition, join, self._read_range)
        windows = LabelWindows(
            pipeline, partition, self._state, recovery.lost, self._topic_ids, self._scored_to
        )
        self._opened = _Opened(store, join, windows)
        topics = (pipeline.topics.scored, pipeline.topics.feedback)
        resumed = {
            topic: at for topic, at in join.positions.items() if committed.get(topic) is None and at
        }
        ends = {topic: committed.get(topic) or resumed.get(topic, 0) for topic in topics}
        await windows.wait_for_lost_events()
        folded = await windows.reached() if windows.needed else ends
        for topic in topics:
            async for _ in recovery.missed(topic, min(folded[topic], ends[topic])):
                join.commit()
        # labels that met their events after this point are in no window yet
        windows.add(await recovery.lost(folded))
        for topic in topics:
            async for changes in recovery.missed(topic, ends[topic]):
                windows.add(changes)
        join.positions.update(ends)
        await self.commit()
        return resumed

    async def process(self, batch: MicroBatch) -> Outputs:
        """Examples, and dead letters for bad feedback, of a micro-batch of either topic.

        Raises:
            TooManyInvalid: too much of the latest feedback is bad; nothing of it is written.
        """
        _, join, windows = self._parts
        topics, name = self._pipeline.topics, self._pipeline.name
        telemetry.EVENTS.labels(name, str(self._partition)).inc(len(batch.records))
        with telemetry.STAGE_SECONDS.labels(name, "join").time():
            joined = join.take(batch.records)
        errors = [error for _, error in joined.rejected]
        if batch.topic == topics.feedback:
            self._breaker.observe(len(batch.records), errors)
        else:
            self._bad_scored.observe(errors)
        windows.add(joined.changes)
        join.positions[batch.topic] = batch.next
        self._observe(joined.examples, joined.rejected)
        letters = [dead_letter(*one) for one in joined.rejected]
        outputs: Outputs = {topics.examples: joined.examples, topics.dead_letters: letters}
        for record in joined.unmatched:
            self._pass_on(record, outputs)
        return outputs

    def served(self, labels: Sequence[SourceRecord]) -> list[ServedEvent | None]:
        """What was served for the events that labels name, in order; None where nothing was."""
        return self._parts.join.served(labels)

    def advance(self, watermark: float) -> Outputs:
        """Examples of what had matured when an event happened at `watermark`."""
        examples = self._parts.join.advance(watermark)
        self._observe(examples, [])
        return {self._pipeline.topics.examples: examples}

    def _pass_on(self, record: SourceRecord, outputs: Outputs) -> None:
        """Write a label that has found no event to the other partitions where it may be."""
        key = record.key or b""
        if any(name == _PASSED_ON for name, _ in record.headers):
            return
        for home in self._homes.others(key, self._partition):
            header = [(_PASSED_ON, b"%d" % self._partition)]
            target = TopicPartition(record.topic, home)
            outputs.setdefault(target, []).append((key, record.value, [*record.headers, *header]))
            telemetry.LABELS.labels(self._pipeline.name, "passed_on").inc()
            if not self._said:
                log.warning(
                    "labels come on other partitions than their events, passing them on - use "
                    "clients of one family, or one partitioner, for events and feedback",
                    partition=self._partition,
                    offset=record.offset,
                    to=home,
                    events_by=str(self._homes),
                )
            self._said = True

    async def commit(self) -> None:
        """Outputs are committed: fold the labels they stand for, and write all that to disk."""
        _, join, windows = self._parts
        async with self._folding:
            await windows.fold(join.positions)
            join.commit()

    async def restore(self) -> None:
        """Fold the labels again that the feature state has lost, whether or not records come.

        To be called now and then while it is open; scoring workers wait for that after a loss.
        """
        if self._opened is None or self._restoring is not None:
            return
        task = self._restoring = asyncio.create_task(self._restore(self._opened))
        await asyncio.wait([task])
        self._restoring = None
        if not task.cancelled():  # as `close` does
            task.result()

    async def _restore(self, opened: _Opened) -> None:
        if await opened.windows.lost():
            async with self._folding:
                await opened.windows.restore(opened.join.stored_positions)

    async def close(self) -> None:
        """Drop what is uncommitted and release the disk."""
        opened, self._opened = self._opened, None
        if self._restoring is not None:
            await cancel(self._restoring)
        if opened is not None:
            opened.store.close()

    @property
    def _parts(self) -> _Opened:
        assert self._opened is not None, "the labeller was not opened"
        return self._opened

    def _observe(self, examples: list[OutputRecord], rejected: list[Rejected]) -> None:
        name = self._pipeline.name
        telemetry.EXAMPLES.labels(name).inc(len(examples))
        for outcome, labels in self._parts.join.outcomes().items():
            telemetry.LABELS.labels(name, outcome).inc(labels)
        for _, error in rejected:
            telemetry.DEAD_LETTERS.labels(name, error.cause).inc()
