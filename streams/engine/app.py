"""The Faust application that runs lanes: Faust subscribes, assigns and rebalances; lanes work."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import faust
import structlog
from aiokafka.errors import KafkaError

from streams.aio.coalescing import Coalescer
from streams.engine.busy import WorkMeter
from streams.engine.committed import CommittedOffsets
from streams.engine.consumer import BatchConsumer, BatchTransport
from streams.engine.gaps import Gaps
from streams.engine.group import GroupMember
from streams.engine.inbox import Inbox
from streams.engine.lag import LagGauges
from streams.engine.lanes import Lane, Lanes, Prepare
from streams.engine.polling import BatchSchema, Fetched, Limits
from streams.engine.producers import ReplaceableProducer
from streams.engine.writers import IdempotentWriter, TransactionalWriter, Writer
from streams.errors import DriftloopError
from streams.kafka import connection
from streams.kafka.topics import group_id
from streams.ports.batches import Background, GroupOffsets, Offsets, Processor, TopicPartition
from streams.settings import Settings

log = structlog.get_logger(__name__)

_MAX_POLL_SECONDS = 300.0
"""After so long without a poll a member leaves its group."""

_HEARTBEAT_SECONDS = 0.3
"""A member learns from its heartbeat that the group shares anew, and all wait for the last one."""

NewBackground = Callable[[GroupOffsets], Background]
"""Makes the background work; its argument tells what the group has committed."""


class Polls(Protocol):
    """The stream that Faust hands to the agent: the records of each poll, of all partitions."""

    def noack(self) -> AsyncIterator[list[Fetched]]:
        """Iterate; acknowledging is the lanes' business."""
        ...


@dataclass(frozen=True)
class Work:
    """What an application does: which topics it reads as which group, and with what processor."""

    pipeline: str
    role: str
    """`score`, `label` and so on; part of the consumer group's name."""
    topics: tuple[str, ...]
    exactly_once: bool
    new_processor: Callable[[int], Processor]
    on_start: Callable[[], Awaitable[None]]
    on_stop: Callable[[], Awaitable[None]]
    background: NewBackground | None = None
    prepare: Prepare | None = None

    @property
    def group(self) -> str:
        """The consumer group."""
        return group_id(self.pipeline, self.role)


class BatchApp(faust.App):  # type: ignore[misc]
    """A Faust app whose one agent hands what was polled to lanes."""

    def __init__(self, work: Work, settings: Settings) -> None:
        self.work = work
        self.settings = settings
        self.limits = Limits(
            batch_records=settings.batch_records,
            batch_wait=settings.batch_wait_ms / 1000,
            span=(settings.transaction_ms if work.exactly_once else settings.commit_ms) / 1000,
        )
        session = settings.session_timeout_ms / 1000
        heartbeat = min(_HEARTBEAT_SECONDS, session / 5)
        self.group_options = {
            **connection.client_options(settings),
            "group_id": work.group,
            "session_timeout_ms": settings.session_timeout_ms,
            "heartbeat_interval_ms": round(heartbeat * 1000),
            "rebalance_timeout_ms": settings.session_timeout_ms,
            "max_poll_interval_ms": int(_MAX_POLL_SECONDS * 1000),
        }
        super().__init__(
            work.group,
            broker=[f"kafka://{address.strip()}" for address in settings.kafka.split(",")],
            broker_credentials=_credentials(settings),
            broker_session_timeout=session,
            broker_heartbeat_interval=heartbeat,
            broker_rebalance_timeout=session,
            broker_max_poll_interval=_MAX_POLL_SECONDS,
            store="memory://",
            stream_wait_empty=False,
            stream_recovery_delay=0.0,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            worker_redirect_stdouts=False,
            loghandlers=[],
        )
        self._commits: Coalescer[Mapping[TopicPartition, int], None] = Coalescer(
            self._commit, at_once=1
        )
        self._shared: ReplaceableProducer | None = None
        """The producer of all partitions, under at_least_once."""
        self._offsets = CommittedOffsets(self._committed)
        self._meter = WorkMeter(work.pipeline)
        self._lag = LagGauges(work.pipeline)
        background = work.background and work.background(self._group_offsets)
        self.lanes = Lanes(
            self._new_lane,
            work.topics,
            self._offsets.find,
            self.failed,
            session / 3,
            background,
            work.prepare,
        )
        batches = self.topic(*work.topics, schema=BatchSchema(), maxsize=64)
        self.agent(batches, name=work.group)(self._hand_over)

    @property
    def group(self) -> GroupMember:
        """This worker as a member of its consumer group."""
        consumer: BatchConsumer = self.consumer
        member: GroupMember = consumer.group
        return member

    def observe_lag(self) -> None:
        """Refresh the lag gauges."""
        self._lag.observe(self.group.lag(), self.lanes)

    async def _hand_over(self, polls: Polls) -> None:
        async for polled in polls.noack():
            for fetched in polled:  # without a pause: lanes that begin together share their work
                self.lanes.put(fetched)

    async def on_start(self) -> None:
        """Connect what the processors use before the first partition is assigned."""
        await self.work.on_start()
        _spare_the_collector()
        await super().on_start()

    async def on_stop(self) -> None:
        """Finish the lanes while Kafka is still connected, then disconnect."""
        await self.lanes.close()
        await super().on_stop()
        if self._shared is not None:  # last: partitions may have been assigned until now
            await self._shared.close()
        await self.work.on_stop()

    def _create_directories(self) -> None:
        """Nothing: there are no tables to keep in the working directory."""

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self, loop=self.loop)

    def _new_producer_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_producer, self, loop=self.loop)

    def _new_lane(self, partition: int, of: int) -> Lane:
        processor = self.work.new_processor(partition)
        limits = self.limits.shared_by(of)
        inbox = Inbox(partition, self.work.topics, limits, self.consumer)
        writer = self._new_writer(partition)
        gaps = Gaps(self.work.pipeline, self.group.log_start)
        return Lane(partition, self._meter, processor, writer, limits, inbox, gaps)

    def _new_writer(self, partition: int) -> Writer:
        # of one attempt: the writer gives up a request that a dying broker has lost well before the
        # broker would abort the transaction, and repeats it with a new producer
        timeout = self.settings.transaction_timeout_ms / 4000
        if not self.work.exactly_once:
            self._shared = self._shared or ReplaceableProducer(
                lambda: connection.producer(self.settings), timeout
            )
            return IdempotentWriter(self._shared, partition, self._commits.ask, timeout)
        transactional_id = f"{self.work.group}-{partition}"
        producer = ReplaceableProducer(
            lambda: connection.producer(
                self.settings,
                transactional_id=transactional_id,
                transaction_timeout_ms=self.settings.transaction_timeout_ms,
            ),
            timeout,
        )
        return TransactionalWriter(
            producer,
            partition,
            self.work.group,
            {TopicPartition(topic, partition) for topic in self.work.topics},
            self._offsets,
            partial(self.group.counted_in, self.lanes.generation),
            timeout,
        )

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str] | None:
        """The ids of those topics that exist, by name; None before the start.

        Raises:
            Unavailable: no broker answers.
        """
        with connection.unavailable(self.settings):
            return await self.group.topic_ids(topics)

    async def _committed(self, partitions: set[TopicPartition]) -> Offsets:
        return await self.group.committed(partitions)

    async def _group_offsets(self) -> Offsets:
        found = map(self.group.partitions, self.work.topics)
        with connection.unavailable(self.settings):
            return await self._committed(set().union(*found))

    async def _commit(self, asked: Sequence[Mapping[TopicPartition, int]]) -> list[None]:
        positions = {tp: at for wanted in asked for tp, at in wanted.items()}
        await self.group.commit(positions)
        self._offsets.acknowledge(positions)
        return [None] * len(asked)

    def failed(self, error: BaseException) -> None:
        """End the worker after an error that a lane or a takeover cannot recover from."""
        self.add_future(self._end(error, self.lanes.generation))

    async def _end(self, error: BaseException, generation: int) -> None:
        """End the worker, unless the error comes from having lost a partition; offsets are safe."""
        if isinstance(error, DriftloopError):
            with suppress(KafkaError):
                if not await self.group.counted_in(generation):
                    log.warning("partition lost", error=str(error))
                    return
        bug = None if isinstance(error, DriftloopError) else error
        log.error("lane failed", error=str(error) or repr(error), exc_info=bug)
        await self.crash(error)


def _spare_the_collector() -> None:
    """Keep objects from start-up out of garbage collections, and make collections rare.

    A micro-batch makes thousands of short-lived objects, none in cycles: with the default
    thresholds half of the worker's time went into collections.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def _credentials(settings: Settings) -> Any:
    context = connection.ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.kafka_username,
            password=settings.kafka_password.get_secret_value(),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None
