"""The late-label join through crashes and moves at any point: examples and windows as in one go."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord, TopicPartition

from streams.adapters.memory.labels import MemoryLabelStore
from streams.adapters.memory.state import MemoryFeatureState
from streams.labelling import standby
from streams.labelling.processor import Labelling
from streams.labelling.standby import Standby
from streams.ports.batches import MicroBatch, Outputs
from streams.ports.features import LabelBatch, LabelsFolded
from streams.records import Example, Scored, decoder, encode
from streams.spec import Feedback
from tests.unit.pipelines import declare

PIPELINE = declare(feedback=Feedback(horizon="1h", missing=0, keep="1d"))
SCORED, FEEDBACK = PIPELINE.topics.scored, PIPELINE.topics.feedback
T0 = 1_700_000_000.0


class CrashError(Exception):
    """The process dies here."""


class Windows(MemoryFeatureState):
    """Counts what each event's label adds up to; may die before or after a call."""

    def __init__(self) -> None:
        super().__init__(PIPELINE.plan)
        self.sums: dict[float, float] = defaultdict(float)
        self.fuse = 1_000_000

    async def fold_labels(self, batch: LabelBatch) -> LabelsFolded:
        self._burn()
        fence = self._label_fences.get((batch.stream, batch.partition), 0)
        for at, delta, offset in zip(batch.times, batch.deltas, batch.offsets, strict=True):
            if offset >= fence:
                self.sums[float(at)] += float(delta)
        folded = await super().fold_labels(batch)
        self._burn()
        return folded

    def _burn(self) -> None:
        self.fuse -= 1
        if self.fuse < 0:
            raise CrashError


class World:
    """Both topics of a partition, what is committed of them, and what was written."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.log: dict[str, list[ConsumerRecord]] = {SCORED: [], FEEDBACK: []}
        self.committed: dict[str, int | None] = {SCORED: None, FEEDBACK: None}
        self.written: list[Example] = []
        self.windows = Windows()
        self.store, self.copy = MemoryLabelStore(), MemoryLabelStore()
        for number in range(120):
            at = T0 + 60 * number
            scored = Scored(f"o{number}", at, ["ann"], bytes(4), 0.5, 1)
            self._append(SCORED, encode(scored))
            for _ in range(self.dice.choice([0, 0, 1, 1, 2, 3])):
                when = at + self.dice.uniform(-600, 7200)
                word = {"event_id": f"o{number}", "label": self.dice.randint(0, 1)}
                self._append(FEEDBACK, orjson.dumps({**word, "labelled_at": when}))
        self.dice.shuffle(self.log[FEEDBACK])
        self.log[FEEDBACK] = [
            ConsumerRecord(FEEDBACK, 0, offset, 0, 0, b"ann", r.value, None, 3, 3, ())
            for offset, r in enumerate(self.log[FEEDBACK])
        ]

    def _append(self, topic: str, value: bytes) -> None:
        offset = len(self.log[topic])
        self.log[topic].append(
            ConsumerRecord(topic, 0, offset, 0, 0, b"ann", value, None, 3, 3, ())
        )

    async def read(
        self, topic: str, partition: int, first: int, end: int
    ) -> AsyncIterator[list[ConsumerRecord]]:
        del partition
        for start in range(first, end, 7):
            yield self.log[topic][start : min(start + 7, end)]

    async def work(self, transactions: int) -> bool:
        """Open, and do some transactions; whether everything is done."""
        labelling = Labelling(PIPELINE, 0, lambda: self.store, self.windows, self.read)
        await labelling.open(self.committed)
        positions = {topic: at or 0 for topic, at in self.committed.items()}
        for _ in range(transactions):
            outputs: list[Outputs] = []
            for _ in range(self.dice.randint(1, 3)):
                left = [t for t, records in self.log.items() if positions[t] < len(records)]
                if not left:
                    break
                topic = self.dice.choice(left)
                first = positions[topic]
                records = self.log[topic][first : first + self.dice.randint(1, 12)]
                batch = MicroBatch(topic, 0, records, first, self.committed[topic] or 0)
                outputs.append(await labelling.process(batch))
                positions[topic] = batch.next
            if self.dice.random() < 0.1:
                raise CrashError  # before the commit
            self.committed.update({t: at for t, at in positions.items() if at})
            for output in outputs:
                self.written += _examples(output)
            if self.dice.random() < 0.1:
                raise CrashError  # after it
            await labelling.commit()
            if self.dice.random() < 0.2:
                await self.follow()
        return all(positions[topic] == len(records) for topic, records in self.log.items())

    async def follow(self) -> None:
        """The standby on another machine takes a look: at what is committed, or was a while ago."""
        seen = {
            TopicPartition(topic, 0): at and self.dice.choice([at, self.dice.randint(0, at)])
            for topic, at in self.committed.items()
        }

        async def committed() -> dict[TopicPartition, int | None]:
            return seen

        await Standby(PIPELINE, lambda _: self.copy, committed, self.read).follow(set())

    async def run(self, *, crashes: bool) -> None:
        """Work to the end."""
        done = False
        while not done:
            self.windows.fuse = self.dice.randint(0, 30) if crashes else 1_000_000
            try:
                done = await self.work(self.dice.randint(1, 20))
            except CrashError:
                if not crashes:
                    self.committed = dict.fromkeys(self.log)
                    raise
                if self.dice.random() < 0.3:
                    self.store = MemoryLabelStore()  # the disk is lost too
                if self.dice.random() < 0.5:
                    self.store, self.copy = self.copy, self.store  # the other machine takes over

    def labels(self) -> dict[str, float]:
        """The last word on each event that had one."""
        last: dict[str, tuple[float, float]] = {}
        for record in self.log[FEEDBACK]:
            word: dict[str, Any] = orjson.loads(record.value)
            before = last.get(word["event_id"])
            if before is None or word["labelled_at"] >= before[1]:
                last[word["event_id"]] = (float(word["label"]), word["labelled_at"])
        return {event_id: label for event_id, (label, _) in last.items()}


def _examples(outputs: Outputs) -> list[Example]:
    read = decoder(Example).decode
    return [read(value or b"") for _, value, _ in outputs[PIPELINE.topics.examples]]


@pytest.mark.parametrize("seed", range(60))
async def test_crashes_change_neither_examples_nor_windows(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "_BEHIND", 1)
    monkeypatch.setattr(standby, "_HELD", 10)
    monkeypatch.setattr(standby, "_STEP", 3)
    world = World(seed)
    await world.run(crashes=True)
    labels = world.labels()
    assert {at: total for at, total in world.windows.sums.items() if total} == {
        T0 + 60 * int(event_id[1:]): label for event_id, label in labels.items() if label
    }
    first: dict[str, Example] = {}
    last: dict[str, Example] = {}
    for example in world.written:
        if example.origin != "correction":
            assert example.event_id not in first, "an example was written twice"
            first[example.event_id] = example
        last[example.event_id] = example
    horizon = T0 + 60 * 119 - PIPELINE.feedback.horizon_seconds
    assert set(first) == {f"o{n}" for n in range(120) if T0 + 60 * n < horizon}
    assert {i: e.label for i, e in last.items()} == {i: labels.get(i, 0.0) for i in first}
