"""The life of a micro-batch: collected, processed, written, committed - one lane per partition.

A lane works in offset order on one partition number of its source topics. Lanes run side by side,
so one partition's inference overlaps another's commit. Nothing is queued without bound: a lane
that is behind pauses its partitions.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable

import structlog

from streams.aio.cancelling import cancel
from streams.engine.busy import WorkMeter
from streams.engine.commit_timing import DurationEstimate, Uncommitted
from streams.engine.gaps import Gaps
from streams.engine.inbox import NOTHING, Inbox, Waiting
from streams.engine.polling import Fetched, Limits
from streams.engine.writers import PartitionLost, Writer
from streams.ports.batches import Background, FindCommitted, MicroBatch, Processor, TopicPartition

log = structlog.get_logger(__name__)

Prepare = Callable[[Collection[int]], Awaitable[None]]
"""Done with the partitions that are assigned, before any is taken over."""
_LOOK_AGAIN = 0.02
"""Seconds until a lane looks again whether a topic has been read to its end."""


class Lane:
    """One partition's queue, processor and writer."""

    def __init__(
        self,
        partition: int,
        meter: WorkMeter,
        processor: Processor,
        writer: Writer,
        limits: Limits,
        inbox: Inbox,
        gaps: Gaps,
    ) -> None:
        self.partition = partition
        self._meter = meter
        self._processor = processor
        self._writer = writer
        self._limits = limits
        self._inbox = inbox
        self._gaps = gaps
        self._arrived = asyncio.Event()
        self._stopping = False
        self._positions: dict[str, int] = {}
        self._committed: dict[str, int] = {}
        self._uncommitted: Uncommitted | None = None
        self._commit_seconds = DurationEstimate()
        """How long a commit takes, counted from when it is due (perhaps within a micro-batch)."""

    async def open(self, topics: Iterable[str], committed: FindCommitted) -> None:
        """Take the partition over, then bring the processor in line with what is committed."""
        await self._writer.open()
        found = await committed({TopicPartition(topic, self.partition) for topic in topics})
        offsets = {tp.topic: at for tp, at in found.items()}
        self._positions = {topic: at for topic, at in offsets.items() if at is not None}
        self._committed = dict(self._positions)
        resumed = await self._processor.open(offsets)
        if resumed:
            log.warning(
                "nothing is committed any more, going on where the work had come to",
                partition=self.partition,
                offsets=dict(resumed),
            )
        self._positions = {**resumed, **self._positions}

    def position(self, topic: str) -> int | None:
        """The next offset of a topic; None where it begins with the first that there is."""
        return self._positions.get(topic)

    def waiting(self, topic: str) -> Waiting:
        """What has come of a topic and is not worked on yet."""
        return self._inbox.waiting(topic)

    @property
    def oldest(self) -> float | None:
        """Monotonic time at which the oldest record came that is not committed; None for none."""
        begun = self._uncommitted
        return self._inbox.oldest if begun is None else begun.received

    def put(self, fetched: Fetched) -> None:
        """Queue records."""
        self._inbox.put(fetched)
        self._arrived.set()

    async def run(self) -> None:
        """Work until told to stop; raises what the processor and the writer raise."""
        while True:
            if (taken := await self._next()) is not None:
                with self._meter.working():
                    await self._work(*taken)
            if self._due() or self._stopping:
                with self._meter.working():
                    await self._commit()
            if self._stopping:
                return

    def stop(self) -> None:
        """Finish the micro-batch in hand, commit, and end."""
        self._stopping = True
        self._inbox.clear()
        self._arrived.set()

    async def close(self) -> None:
        """Drop what is uncommitted and release everything."""
        await self._writer.close()
        await self._processor.close()

    async def _work(self, fetched: Fetched, size: int) -> None:
        batch = await self._micro_batch(fetched)
        if batch is None:
            return
        begun = self._uncommitted or Uncommitted(batch.received, time.monotonic())
        self._uncommitted = begun._replace(size=begun.size + size)
        outputs = await self._processor.process(batch)
        made = time.monotonic()
        await self._writer.write(
            outputs, {TopicPartition(batch.topic, batch.partition): batch.next}
        )
        self._meter.produced(time.monotonic() - made)
        self._meter.batch(len(batch.records))
        self._positions[batch.topic] = batch.next

    async def _micro_batch(self, fetched: Fetched) -> MicroBatch | None:
        records = fetched.records
        position = self._positions.get(fetched.topic)
        read_to = position or 0
        if position is None:
            position = int(records[0].offset)
        elif records[0].offset < position:  # read again after a seek
            records = [record for record in records if record.offset >= position]
        if not records:
            return None
        tp = TopicPartition(fetched.topic, self.partition)
        await self._gaps.observe(tp, read_to, int(records[0].offset))
        committed = self._committed.get(fetched.topic, 0)
        return MicroBatch(
            fetched.topic, self.partition, records, position, committed, fetched.received
        )

    async def _commit(self) -> None:
        begun, due = time.monotonic(), self._due_at()
        await self._writer.commit()
        done = time.monotonic()
        self._meter.committed(done - begun)
        self._commit_seconds.observe(done - min(begun, due or begun))
        await self._processor.commit()
        self._committed = dict(self._positions)
        self._uncommitted = None

    def _due(self) -> bool:
        if self._uncommitted and self._uncommitted.size >= self._limits.uncommitted_bytes:
            return True
        at = self._due_at()
        return at is not None and time.monotonic() >= at

    async def _next(self) -> tuple[Fetched, int] | None:
        """The next micro-batch, and its bytes; None when it is time to commit or stop."""
        while (taken := self._inbox.take()) is None:
            if self._stopping or self._due():
                return None
            await self._wait(self._due_at())
        return taken

    def _due_at(self) -> float | None:
        """When to begin the next commit; None where there is nothing to commit."""
        if self._uncommitted is None:
            return None
        return self._uncommitted.due(self._limits.span, self._commit_seconds.seconds)

    async def _wait(self, until: float | None) -> None:
        self._arrived.clear()
        timeout = None if until is None else max(0.0, until - time.monotonic())
        if self._inbox.waits:  # that a topic has been read to its end, nobody says
            timeout = min(_LOOK_AGAIN, _LOOK_AGAIN if timeout is None else timeout)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._arrived.wait()


class Lanes:
    """The lanes of the partitions that this worker owns."""

    def __init__(
        self,
        new_lane: Callable[[int, int], Lane],
        topics: Iterable[str],
        committed: FindCommitted,
        on_error: Callable[[BaseException], None],
        grace: float = 3.0,
        background: Background | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self._new_lane = new_lane
        self._topics = tuple(topics)
        self._committed = committed
        self._on_error = on_error
        self._grace = grace
        self._background = background
        self._prepare = prepare
        self.generation = -1
        """The group's, of the last assignment."""
        self._interruptible: list[asyncio.Task[None]] = []
        """Takeovers under way, and the background work."""
        self._lanes: dict[int, Lane] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def open(self, assigned: set[TopicPartition], generation: int) -> None:
        """Take over the assigned partitions and start working on them.

        If it fails, `close` still releases what it has taken.
        """
        self.generation = generation
        numbers = sorted({tp.partition for tp in assigned if tp.topic in self._topics})
        if self._prepare is not None:
            await self._prepare(numbers)
        lanes = {number: self._new_lane(number, len(numbers)) for number in numbers}
        self._lanes = lanes
        self._interruptible = [
            asyncio.create_task(lane.open(self._topics, self._committed)) for lane in lanes.values()
        ]
        await asyncio.gather(*self._interruptible)
        for number, lane in lanes.items():
            self._tasks[number] = self._start(lane.run(), f"lane-{number}")
        if self._background is not None:
            self._interruptible.append(self._start(self._background(lanes.keys()), "background"))
        log.info("partitions assigned", partitions=numbers)

    def put(self, fetched: Fetched) -> None:
        """Queue records at their lane; drop those of an earlier assignment, which others read."""
        lane = self._lanes.get(fetched.partition)
        if lane is not None and fetched.generation == self.generation:
            lane.put(fetched)

    def position(self, tp: TopicPartition) -> int | None:
        """The next offset of a partition that is worked on; None where none is known."""
        lane = self._lanes.get(tp.partition)
        return None if lane is None else lane.position(tp.topic)

    def waiting(self, tp: TopicPartition) -> Waiting:
        """What has come of a partition and is not worked on yet."""
        lane = self._lanes.get(tp.partition)
        return NOTHING if lane is None else lane.waiting(tp.topic)

    @property
    def oldest(self) -> float | None:
        """Monotonic time at which the oldest record came that is not committed; None for none."""
        found = (lane.oldest for lane in self._lanes.values())
        return min((at for at in found if at is not None), default=None)

    async def close(self) -> None:
        """Let each lane finish its micro-batch and commit, for a grace period; then cut it off.

        It cuts off a takeover that is under way at once, and closes what that has opened. It cuts
        off the background work too.
        """
        interrupted, self._interruptible = self._interruptible, []
        await cancel(*interrupted)
        lanes, self._lanes = self._lanes, {}
        tasks, self._tasks = self._tasks, {}
        for lane in lanes.values():
            lane.stop()
        if tasks:
            _, late = await asyncio.wait(tasks.values(), timeout=self._grace)
            await cancel(*late)
        await asyncio.gather(*(lane.close() for lane in lanes.values()))
        if lanes:
            log.info("partitions given up", partitions=sorted(lanes))

    def _start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, PartitionLost):  # the lane is closed once the group has told us so
            log.warning("partition lost", error=str(error))
        else:
            self._on_error(error)
