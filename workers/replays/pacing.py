"""Whether the loop has done all that it could have done by now: what was sent is scored and joined,
and each candidate that is due is decided.

In event time the loop has all the time of the world; a replay has to wait for it. What is asked is
what the trainer asks itself (`workers.training.schedule.due`), of the same topics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from streams.kafka.offsets import OffsetsClient
from streams.kafka.reading import TopicFollower, following
from streams.kafka.topics import group_id
from streams.ledger.state import LedgerState, state_after
from streams.ledger.topic import decode
from streams.ports.batches import TopicPartition
from streams.records import LedgerEntry
from streams.settings import Settings
from streams.spec import Pipeline
from workers.examples.index import ExampleFollower
from workers.fetching import Notify
from workers.training.schedule import due

_LOOK = 0.05
"""Seconds between two looks."""
_PATIENCE = 1200.0
"""Seconds after which a candidate that is due is taken to have failed."""


class Pace:
    """Follows what a loop does. Made by `pacing`; every method raises `Unavailable`."""

    def __init__(
        self,
        pipeline: Pipeline,
        offsets: OffsetsClient,
        examples: ExampleFollower,
        followers: tuple[TopicFollower, TopicFollower],
        report: Notify,
    ) -> None:
        """`followers`: of what was served, and of the ledger."""
        self._pipeline = pipeline
        self._offsets = offsets
        self._examples = examples
        self._scored, self._models = followers
        self._report = report
        self._served: dict[TopicPartition, int] = {}
        self._given_up = 0.0
        self.ledger: list[LedgerEntry] = []
        """As far as it was read."""

    @property
    def state(self) -> LedgerState:
        """What the ledger says."""
        return state_after(self.ledger)

    async def sent(self, ends: Mapping[TopicPartition, int], role: str) -> None:
        """Return when a role's workers have committed all records below these offsets."""
        group = group_id(self._pipeline.name, role)
        for topic in {at.topic for at in ends}:
            wanted = {at.partition: end for at, end in ends.items() if at.topic == topic}
            while True:
                found = await self._offsets.committed(group, topic, wanted)
                if all((found[number] or 0) >= end for number, end in wanted.items()):
                    break
                await asyncio.sleep(_LOOK)

    async def settled(self) -> None:
        """Return when all that was served is joined, and no candidate is due.

        A candidate that does not come is given up after a while, which is reported.
        """
        while not await self._scored.at_end():
            for record in await self._scored.poll(_LOOK):
                # an offset after it may be a transaction's marker, which nobody commits
                self._served[TopicPartition(record.topic, record.partition)] = record.offset + 1
        await self.sent(self._served, "label")
        while not await self._examples.at_end():
            await self._examples.poll(_LOOK)
        until = time.monotonic() + _PATIENCE
        while target := await self._due():
            if time.monotonic() > until:
                self._report(
                    f"no candidate in {_PATIENCE:.0f} s, though one was due: the trainer's log, "
                    "logs/*/trainer.log, says why; it is given up"
                )
                self._given_up = target
                return
            await asyncio.sleep(_LOOK)

    async def _due(self) -> float:
        """The label watermark of the candidate that is not decided yet; 0 for none."""
        self.ledger += decode(await self._models.poll(_LOOK))
        policy, index = self._pipeline.policies.retrain, self._examples.index
        decided = max(self.state.decided, self._given_up)
        expected = await self._examples.expected()
        found = due(policy, index, decided, expected, self._pipeline.predicts)
        return found.watermark if found is not None else 0.0


@asynccontextmanager
async def pacing(
    settings: Settings, pipeline: Pipeline, offsets: OffsetsClient, report: Notify
) -> AsyncIterator[Pace]:
    """What follows a loop while the block lasts. Raises `Unavailable`."""
    examples = ExampleFollower(settings, pipeline)
    await examples.start()
    try:
        async with (
            following(settings, pipeline.topics.scored) as scored,
            following(settings, pipeline.topics.models) as models,
        ):
            yield Pace(pipeline, offsets, examples, (scored, models), report)
    finally:
        await examples.stop()
