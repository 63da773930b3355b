"""The demo's world as Kafka records: payments in time order, and labels a week late.

A slot of event time is published at a time: first the labels that became known in it, then, once
the label worker has taken them in, its payments. So a window feature sees each label that was
known at its event time, as it would at the pace of the real world.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from streams.kafka.connection import Producer
from streams.kafka.offsets import OffsetsClient
from streams.kafka.topics import group_id
from streams.kafka.writing import send_all
from streams.ports.batches import TopicPartition
from streams.spec import Pipeline
from workers.worlds.card_fraud import event_records, feedback_records
from workers.worlds.card_fraud.records import KeyedRecord

DAY = 86_400
SLOTS_PER_DAY = 4
LABEL_DELAY = 7 * DAY
_TRAINING_SECONDS = 90.0


@dataclass
class Published:
    """What has gone in so far."""

    events: int = 0
    """Distinct valid events."""
    duplicates: int = 0
    malformed: int = 0
    labels: int = 0


@dataclass(frozen=True)
class Slot:
    """Records of a quarter of a day."""

    payments: list[KeyedRecord]
    """Valid ones, then repeated ones, then broken ones."""
    labels: list[KeyedRecord]
    duplicates: int
    malformed: int


class Source:
    """Payments and frauds' labels of a simulated world, slot by slot."""

    def __init__(self, world: pd.DataFrame, seed: int = 1) -> None:
        self._world = world
        self._frauds = world[world["is_fraud"] == 1]
        self._seconds = world["seconds"].to_numpy()
        self._known = self._frauds["seconds"].to_numpy() + LABEL_DELAY
        self._random = random.Random(seed)  # noqa: S311 - not a secret
        self.slots = int(self._seconds[-1]) * SLOTS_PER_DAY // DAY + 1

    def slot(self, number: int) -> Slot:
        """One slot; about one payment in 2,000 comes twice, one in 4,000 is broken in transit."""
        edges = [number * DAY // SLOTS_PER_DAY, (number + 1) * DAY // SLOTS_PER_DAY]
        first, end = np.searchsorted(self._seconds, edges)
        valid = event_records(self._world.iloc[first:end])
        first, end = np.searchsorted(self._known, edges)
        labels = feedback_records(self._frauds.iloc[first:end])
        repeated = [record for record in valid if self._random.random() < 1 / 2000]
        broken = [(k, v[: len(v) // 2]) for k, v in valid if self._random.random() < 1 / 4000]
        payments = [*valid, *repeated, *broken]
        return Slot(payments, labels, len(repeated), len(broken))


class Feeder:
    """Publishes a source's slots at a pace, never far ahead of what the loop has taken in."""

    def __init__(
        self,
        producer: Producer,
        offsets: OffsetsClient,
        pipeline: Pipeline,
        seconds_per_slot: float,
        trained: Callable[[float], bool],
    ) -> None:
        self._producer = producer
        self._offsets = offsets
        topics, name = pipeline.topics, pipeline.name
        self._topics = topics
        self._groups = {
            topics.events: group_id(name, "score"),
            topics.feedback: group_id(name, "label"),
        }
        self._trained = trained
        self._ends: dict[TopicPartition, int] = {}
        self._pace = seconds_per_slot
        self.published = Published()
        self.slot = 0

    async def run(self, source: Source) -> None:
        """Publish every slot."""
        started = time.monotonic()
        for number in range(source.slots):
            slot = source.slot(number)
            await asyncio.sleep(max(0.0, started + number * self._pace - time.monotonic()))
            await self._training(number / SLOTS_PER_DAY)
            await self._publish(self._topics.feedback, slot.labels)
            await self._taken_in(self._topics.feedback, within=0)
            await self._taken_in(self._topics.events, within=len(slot.payments))
            await self._publish(self._topics.events, slot.payments)
            self._count(slot)
            self.slot = number + 1
        await self._taken_in(self._topics.events, within=0)

    async def _training(self, day: float) -> None:
        """Return when training has kept up with this day of event time; wait a while at most."""
        patience = time.monotonic() + _TRAINING_SECONDS
        while not self._trained(day) and time.monotonic() < patience:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    def _count(self, slot: Slot) -> None:
        done = self.published
        done.events += len(slot.payments) - slot.duplicates - slot.malformed
        done.duplicates += slot.duplicates
        done.malformed += slot.malformed
        done.labels += len(slot.labels)

    async def _publish(self, topic: str, records: list[KeyedRecord]) -> None:
        self._ends |= await send_all(self._producer, ((topic, *record) for record in records))

    async def _taken_in(self, topic: str, within: int) -> None:
        """Return when the topic's group has committed all but `within` of what was published."""
        ends = {at.partition: end for at, end in self._ends.items() if at.topic == topic}
        while ends:
            found = await self._offsets.committed(self._groups[topic], topic, ends)
            if sum(end - (found[number] or 0) for number, end in ends.items()) <= within:
                return
            await asyncio.sleep(0.02)
