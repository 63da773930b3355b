"""Kafka's side of one consumer group, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiokafka

from streams.ports.batches import TopicPartition
from streams.testing.broker_state import BrokerState, Fault
from streams.testing.clients import MemoryConsumer, MemoryProducer

__all__ = ["Fault", "MemoryBroker", "MemoryProducer"]


class MemoryBroker(BrokerState):
    """A broker with one member of one group, and its producers."""

    def __init__(self, batch_bytes: int = 1 << 20) -> None:
        super().__init__(batch_bytes)
        self.consumer: MemoryConsumer | None = None
        self.producers: list[MemoryProducer] = []

    async def rebalance(
        self, assigned: set[TopicPartition], *, between: Callable[[], None] | None = None
    ) -> None:
        """Revoke what the member has and assign it `assigned`, through its rebalance listener.

        `between` is called once the client has the assignment and before the listener hears of it,
        while a fetch that was asked before is still waiting.
        """
        consumer = self.consumer
        assert consumer is not None
        joining = consumer.rebalance({aiokafka.TopicPartition(*tp) for tp in assigned}, between)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(joining, consumer.loop))

    def position(self, tp: TopicPartition) -> int:
        """The next offset that the member's client would fetch."""
        assert self.consumer is not None
        return self.consumer.position_of[aiokafka.TopicPartition(*tp)]

    def new_consumer(self, **options: Any) -> MemoryConsumer:
        """The group's member; takes aiokafka's options."""
        self.consumer = MemoryConsumer(self, options)
        return self.consumer

    def new_producer(self, **options: Any) -> MemoryProducer:
        """A producer; takes aiokafka's options."""
        self.producers.append(MemoryProducer(self, options.get("transactional_id")))
        return self.producers[-1]
