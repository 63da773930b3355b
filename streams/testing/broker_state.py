"""The logs, offsets and faults of a broker in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiokafka import ConsumerRecord

from streams.ports.batches import TopicPartition

Fault = Exception | Callable[[], Awaitable[Any]] | None
"""Raised, or awaited, in place of (or before) the operation it was set for; None for no fault."""


class BrokerState:
    """Logs with holes, the group's committed offsets, and what producers wrote.

    `faults[operation]` is taken from the front, one for each time the operation is asked for:
    `start` (of a producer), `commit` (of a consumer), `seek`, `send`, `acknowledge` (of what was
    sent), `send_offsets`, `end` (of a transaction), `answer` (to that), `ask` (for committed
    offsets), `heartbeat`.
    """

    def __init__(self, batch_bytes: int = 1 << 20) -> None:
        self.batch_bytes = batch_bytes
        """The largest record batch of its producers."""
        self.log: dict[TopicPartition, list[ConsumerRecord]] = {}
        self.committed: dict[TopicPartition, int] = {}
        self.output: list[tuple[str, bytes]] = []
        """Topic and value of what a read_committed consumer sees, in order."""
        self.sent: list[tuple[str, int, int]] = []
        """Of each record batch that was sent: topic, partition, and how many records."""
        self.transactions: list[tuple[int, dict[TopicPartition, int]]] = []
        """Of each transaction: how many records, and which offsets."""
        self.groups: list[str] = []
        """The group that offsets were sent for, each time."""
        self.epochs: dict[str, int] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.member = True
        """Whether the group counts the worker in."""

    def write(
        self, tp: TopicPartition, offsets: Iterable[int], values: Mapping[int, bytes] | None = None
    ) -> None:
        """Append records whose value is their offset, unless `values` says otherwise."""
        for offset in offsets:
            value = (values or {}).get(offset, b"%d" % offset)
            self.log.setdefault(tp, []).append(
                ConsumerRecord(tp.topic, tp.partition, offset, 0, 0, b"k", value, None, 1, 1, ())
            )

    async def fault(self, operation: str) -> None:
        """Meet the operation's next fault."""
        waiting = self.faults.get(operation)
        found = waiting.pop(0) if waiting else None
        if isinstance(found, Exception):
            raise found
        if found is not None:
            await found()

    async def ask(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int | None]:
        """The group's committed offsets; None where nothing is committed."""
        await self.fault("ask")
        return {tp: self.committed.get(tp) for tp in partitions}

    async def counted_in(self) -> bool:
        """Whether the group counts the worker in."""
        await self.fault("heartbeat")
        return self.member

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit for the group."""
        await self.fault("commit")
        self.committed.update(positions)
