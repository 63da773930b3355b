"""Faust's consumer at batch speed: one Faust event for all that a poll has brought.

Stock Faust delivers record by record, commits by timer what its streams acknowledged, and loses
track of gaps (see `docs/faust.md`). Here a poll is one event; offsets are committed by the lanes
(`streams.engine.lanes`), after the outputs are acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Protocol

import aiokafka
import structlog
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service
from mode.utils.futures import maybe_async

from streams.engine.group import GroupMember
from streams.engine.lanes import Lanes
from streams.engine.polling import Fetched, Limits
from streams.ports.batches import TopicPartition

log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.05
"""Longest wait for records; it does not notice a partition that is resumed meanwhile."""
_LONG_POLL_MS = 500
"""How long a fetch waits at the broker when nothing arrives; the first record ends the wait."""
_BUSY_RECORDS = 4
"""A poll with at least this many records counts as busy."""
_RECORD_BYTES = 128
"""Rough size of a record: after a busy poll, a fetch waits for a micro-batch of such records."""


class Host(Protocol):
    """What the consumer needs of its application; `BatchApp` is one."""

    lanes: Lanes
    limits: Limits
    group_options: Mapping[str, Any]
    """Addresses, security, group and time-outs, as aiokafka's consumer takes them."""
    should_stop: bool
    consumer_generation_id: int

    def failed(self, error: BaseException) -> None:
        """End the worker after an error that a lane or a takeover cannot recover from."""
        ...

    async def wait_first(self, work: Coroutine[Any, Any, None]) -> object:
        """Await work until it ends or the application is to stop."""
        ...


class BatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Runs the aiokafka consumer, built from our own options, in the application's event loop.

    Faust gives it a thread of its own, so that it lives on while an agent blocks. Ours do not, and
    two threads that compete for the interpreter delay every poll by milliseconds.
    """

    wait_for_shutdown = False
    app: Host

    async def start(self) -> None:
        """Start as any service does."""
        self._thread_started.set()
        await self._default_start()

    async def stop(self) -> None:
        """Stop as any service does."""
        if self._started.is_set():
            await Service.stop(self)

    def _stopped_set(self) -> None:
        self._stopped.set()

    async def _stop_children(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def _stop_futures(self) -> None:
        await self._default_stop_futures()

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call it in this event loop."""
        return await maybe_async(fun(*args, **kwargs))

    def _create_worker_consumer(self, transport: BatchTransport) -> aiokafka.AIOKafkaConsumer:
        # Faust reads the assignor from here
        self._assignor = RangePartitionAssignor
        limits = self.app.limits
        return aiokafka.AIOKafkaConsumer(
            **self.app.group_options,
            # topics with equal partition counts are assigned together: the late-label join needs it
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=limits.queued_records,
            max_partition_fetch_bytes=4 << 20,
            fetch_max_wait_ms=_LONG_POLL_MS,
            # a new topic or partition is noticed within this time
            metadata_max_age_ms=30_000,
        )

    async def _fetch_records(self, consumer: Any, *args: Any, **kwargs: Any) -> Any:
        found = await super()._fetch_records(consumer, *args, **kwargs)
        self._pace(consumer._fetcher, sum(map(len, found.values())))
        return found

    def _pace(self, fetcher: Any, found: int) -> None:
        """Let the next fetch gather records at the broker, where waiting costs nothing.

        After a busy poll the broker answers once it has a batch, or after `batch_wait`, so the
        oldest record waits no longer than that. A fetch for every few records would cost the broker
        and the worker more than the records do. So would a fetch every `batch_wait` for a trickle.
        """
        limits = self.app.limits
        gather = found >= _BUSY_RECORDS and limits.batch_wait > 0
        fetcher._fetch_min_bytes = _RECORD_BYTES * limits.batch_records if gather else 1
        fetcher._fetch_max_wait_ms = round(1000 * limits.batch_wait) if gather else _LONG_POLL_MS

    async def seek_to_committed(self) -> Mapping[TopicPartition, int | None]:
        """Seek all partitions to what is committed; where nothing is, to where its lane goes on.

        aiokafka leaves the latter where they are: what was fetched and dropped would be lost.
        """
        consumer = self._ensure_consumer()

        async def seek() -> Mapping[TopicPartition, int | None]:
            if not consumer.assignment():
                return {}
            found: Mapping[TopicPartition, int | None] = await consumer.seek_to_committed()
            fresh = [tp for tp, offset in found.items() if not offset]
            for tp in fresh:
                if position := self.app.lanes.position(TopicPartition(*tp)):
                    consumer.seek(tp, position)
                else:
                    await consumer.seek_to_beginning(tp)
            return found

        result: Mapping[TopicPartition, int | None] = await self.call_thread(seek)
        return result


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Delivers `Fetched` batches and leaves acknowledgement and commits to the lanes."""

    logger = driver.logger
    app: Host

    def __post_init__(self) -> None:
        self.group = GroupMember(lambda: self._thread._consumer)
        self._resumed = asyncio.Event()
        self._dropped = False
        """Whether records were fetched and not delivered: they must be fetched again."""
        self._polled: dict[TopicPartition, int] = {}
        """The offset after the last record that was polled, by partition."""

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, thread_loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await self._room()
                records, _ = await self._wait_next_records(_POLL_SECONDS)
                if self._dropped:
                    await self._fetch_again()
                elif records and not self.should_stop:
                    await self._deliver(records)
                await asyncio.sleep(0)
        except (asyncio.CancelledError, *self.consumer_stopped_errors):
            if not self.app.should_stop:
                raise

    async def _room(self) -> None:
        """Wait while every partition is paused: stock Faust sleeps a second, whatever happens."""
        while self.flow_active and self._buffered_partitions and not self._get_active_partitions():
            self._resumed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._resumed.wait()

    def on_buffer_full(self, tp: TopicPartition) -> None:
        """Stop fetching."""
        super().on_buffer_full(TP(*tp))  # Faust asks for tuples of its own class

    def on_buffer_drop(self, tp: TopicPartition) -> None:
        """Fetch again."""
        super().on_buffer_drop(TP(*tp))
        self._resumed.set()

    def read_to_end(self, tp: TopicPartition, arrived: int) -> bool:
        """Whether a partition holds nothing from the offset `arrived` on, of which a lane knows."""
        return arrived >= self._polled.get(tp, 0) and self.group.at_end(tp)

    async def _deliver(self, records: Mapping[TopicPartition, list[Any]]) -> None:
        """Hand records to Faust's conductor; fetch them again if a rebalance cuts this off."""
        if not self.flow_active:
            self._dropped = True
            return
        generation, received = self.app.consumer_generation_id, time.monotonic()
        for tp, found in records.items():
            self._polled[TopicPartition(*tp)] = int(found[-1].offset) + 1
        polled = [
            Fetched(tp.topic, tp.partition, found, received, generation)
            for tp, found in records.items()
        ]
        last = polled[-1].records[-1]
        message = self._to_message(TP(last.topic, last.partition), last)
        message.value = polled
        delivery = self.callback(message)
        # waiting for suspend_flow too breaks the deadlock of a full queue during a rebalance
        first = await self.wait_first(delivery, self.suspend_flow.wait())
        self._dropped = delivery not in first.done

    async def _fetch_again(self) -> None:
        """Seek back to what is committed; lanes drop what they had. Retried if Kafka refuses."""
        try:
            await self.perform_seek()
            self._dropped = False
        except KafkaError as error:
            log.warning("seek failed", error=repr(error))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Finish and commit what the lanes have in hand before the partitions go."""
        await self.app.lanes.close()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(
        self, assigned: set[TopicPartition], generation_id: int = 0
    ) -> None:
        """Take the partitions over before Faust seeks to what is committed, and resumes."""
        # Faust does not stop it for a worker that had no partition before: what arrived meanwhile
        # would be dropped, and what follows it would not
        self.stop_flow()
        self._polled.clear()
        try:
            # a worker that is told to stop meanwhile would wait for a thread that answers no more
            opening = self.app.lanes.open({TopicPartition(*tp) for tp in assigned}, generation_id)
            await self.app.wait_first(opening)
        except (Exception, asyncio.CancelledError) as error:
            if self.app.should_stop:
                raise
            # aiokafka would log it, and stay a member with partitions that nobody works on
            self.app.failed(error)
            return
        if not self.app.should_stop:
            await super().on_partitions_assigned(assigned, generation_id)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Nothing: the lanes commit, never a timer."""
        del topics, start_new_transaction
        return False

    def verify_event_path(self, now: float, tp: TopicPartition) -> None:
        """Nothing: Faust's livelock detector counts stock acknowledgements."""


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """The transport whose consumer is `BatchConsumer`."""

    Consumer: ClassVar[type] = BatchConsumer
