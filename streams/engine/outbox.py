"""What a writer has not committed yet, and how it is sent: by whole record batches."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.kafka.filling import hand_over
from streams.ports.batches import Outputs, TopicPartition


class Outbox:
    """What was written to one partition since its last commit; it can be sent anew."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self.positions: dict[TopicPartition, int] = {}
        """The next source offsets that it covers; none where nothing was written."""
        self._outputs: list[Outputs] = []
        self._handed_over = 0
        """How many of them the producer has."""
        self._sent: list[asyncio.Future[Any]] = []
        """What the broker has to acknowledge."""

    @property
    def waiting(self) -> int:
        """Records that the producer does not have yet."""
        unsent = self._outputs[self._handed_over :]
        return sum(len(records) for outputs in unsent for records in outputs.values())

    def add(self, outputs: Outputs, positions: Mapping[TopicPartition, int]) -> None:
        """Take outputs in."""
        self._outputs.append(outputs)
        self.positions = {**self.positions, **positions}

    async def send(self, producer: AIOKafkaProducer) -> None:
        """Hand over what the producer does not have yet."""
        unsent = self._outputs[self._handed_over :]
        self._handed_over = len(self._outputs)
        merged: Outputs = defaultdict(list)
        for outputs in unsent:
            for topic, records in outputs.items():
                merged[topic] += records
        self._sent += await send(producer, merged, self._partition)

    def expect(self, request: Awaitable[Any]) -> None:
        """Begin a request that is to be acknowledged as well."""
        self._sent.append(asyncio.ensure_future(request))

    async def acknowledged(self) -> None:
        """Return once the broker has acknowledged all that was sent; raises what it said."""
        await asyncio.gather(*self._sent)

    def unsend(self) -> None:
        """Mark everything as unsent, for a new producer; ignore the results of earlier requests."""
        for one in self._sent:
            if not one.cancel() and not one.cancelled():
                one.exception()
        self._sent = []
        self._handed_over = 0

    def clear(self) -> None:
        """Forget everything: it is committed, or another worker has the partition."""
        self.unsend()
        self._outputs = []
        self.positions = {}


async def send(producer: AIOKafkaProducer, outputs: Outputs, partition: int) -> list[Any]:
    """Hand outputs over; returns a future for each record batch, which the broker acknowledges.

    `partition` is that of outputs that name only a topic.
    """
    sent = []
    for target, records in outputs.items():
        topic, at = (target, partition) if isinstance(target, str) else target
        handed = await hand_over(producer, records, topic, at)
        sent += [one.acknowledged for one in handed]
    return sent
