"""Faust's consumer at batch speed: one Faust event per partition and up to N records.

Stock Faust delivers record by record, commits by timer what its streams acknowledged, and loses
track of gaps (see `tests/unit/test_stock_faust.py`). Here a batch is one event; offsets are
committed by the lanes (`streams.transport.lanes`), after the outputs are acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

import aiokafka
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.transport.batches import Fetched

_POLL_SECONDS = 0.05
"""Longest wait for records: a partition that is resumed meanwhile is not part of it."""


class BatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Runs the aiokafka consumer, built from our own options, in Faust's consumer thread."""

    def _create_worker_consumer(self, transport: BatchTransport) -> aiokafka.AIOKafkaConsumer:
        # Faust reads the assignor from here
        self._assignor = RangePartitionAssignor
        conf = self.app.conf
        return aiokafka.AIOKafkaConsumer(
            **self.app.client_options,
            group_id=conf.id,
            # topics with equal partition counts are assigned together: the late-label join needs it
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=self.app.limits.queued_records,
            max_partition_fetch_bytes=4 << 20,
            fetch_max_wait_ms=500,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            # a new topic or partition is noticed within this time
            metadata_max_age_ms=30_000,
        )

    async def committed(self, partitions: set[TP]) -> dict[TP, int | None]:
        """The group's committed offsets, asked of the broker."""
        consumer = self._ensure_consumer()

        async def ask() -> dict[TP, int | None]:
            return {tp: await consumer.committed(TopicPartition(*tp)) for tp in partitions}

        result: dict[TP, int | None] = await self.call_thread(ask)
        return result

    async def commit_positions(self, positions: Mapping[TP, int]) -> None:
        """Commit, and raise what goes wrong: stock Faust answers False or crashes instead."""
        offsets = {TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in positions.items()}
        await self.call_thread(self._ensure_consumer().commit, offsets)


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Delivers `Fetched` batches and leaves acknowledgement and commits to the lanes."""

    logger = driver.logger

    def __post_init__(self) -> None:
        self._resumed = asyncio.Event()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await self._room()
                records, _ = await self._wait_next_records(_POLL_SECONDS)
                if records and not self.should_stop:
                    await self._deliver(records)
                await asyncio.sleep(0)
        except (asyncio.CancelledError, *self.consumer_stopped_errors):
            if not self.transport.app.should_stop:
                raise

    async def _room(self) -> None:
        """Wait while every partition is paused: stock Faust sleeps a second, whatever happens."""
        while self.flow_active and self._buffered_partitions and not self._get_active_partitions():
            self._resumed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._resumed.wait()

    def on_buffer_drop(self, tp: TP) -> None:
        """Fetch again."""
        super().on_buffer_drop(tp)
        self._resumed.set()

    async def _deliver(self, records: Mapping[TP, list[Any]]) -> None:
        """Hand batches to the conductor, round-robin over partitions.

        A rebalance in the middle ends it: what is left is read again from the committed offset.
        """
        if not self.flow_active:
            await self.perform_seek()
            return
        generation, received = self.app.consumer_generation_id, time.monotonic()
        size = self.app.limits.batch_records
        longest = max(map(len, records.values()))
        for start in range(0, longest, size):
            for tp, found in records.items():
                if not self.flow_active or generation != self.app.consumer_generation_id:
                    return
                chunk = found[start : start + size]
                if chunk:
                    await self._deliver_one(TP(*tp), chunk, received, generation)

    async def _deliver_one(
        self, tp: TP, chunk: list[Any], received: float, generation: int
    ) -> None:
        message = self._to_message(tp, chunk[-1])
        message.value = Fetched(tp.topic, tp.partition, chunk, received, generation)
        # waiting for suspend_flow too breaks the deadlock of a full queue during a rebalance
        await self.wait_first(self.callback(message), self.suspend_flow.wait())

    def lag(self) -> dict[TP, int]:
        """Records between the position and the log's end, by assigned partition."""
        consumer = self._thread._consumer
        if consumer is None:
            return {}
        found = {}
        for tp in consumer.assignment():
            end, state = consumer.last_stable_offset(tp), consumer._subscription.subscription
            position = state.assignment.state_value(tp) if state and state.assignment else None
            if end is not None and position is not None and position.has_valid_position:
                found[TP(*tp)] = max(0, end - position.position)
        return found

    async def committed(self, partitions: set[TP]) -> dict[TP, int | None]:
        """The group's committed offsets, asked of the broker."""
        return await self._thread.committed(partitions)  # type: ignore[no-any-return]

    async def commit_positions(self, positions: Mapping[TP, int]) -> None:
        """Commit next offsets; raises the broker's error."""
        await self._thread.commit_positions(positions)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit what the lanes have in hand before the partitions go."""
        await self.app.lanes.close()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take the partitions over before Faust seeks to what is committed, and resumes."""
        # Faust does not stop it for a worker that had no partition before: what arrived meanwhile
        # would be dropped, and what follows it would not
        self.stop_flow()
        opening = self.app.lanes.open({TP(*tp) for tp in assigned}, generation_id)
        # a worker that is ending may be given partitions once more: it would wait for ever for
        # answers of the consumer that it has stopped
        if not (await self.app.wait(opening)).stopped:
            await super().on_partitions_assigned(assigned, generation_id)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Nothing: the lanes commit, never a timer."""
        del topics, start_new_transaction
        return False

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust's livelock detector counts stock acknowledgements."""


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """The transport whose consumer is `BatchConsumer`."""

    Consumer: ClassVar[type] = BatchConsumer
