"""A pipeline out of its history: killed, run again, and gone on with by workers, without a seam."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streams.backfill.history import written_at
from streams.errors import ConfigurationError
from streams.kafka.connection import producer
from streams.kafka.history import require_none_under_way
from streams.kafka.offsets import offsets_client
from streams.kafka.reading import read_topic
from streams.kafka.topics import group_id
from streams.kafka.writing import send_all
from streams.records import Example, Scored, decoder
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.layout import unpack
from tests.bench.backfill import write_files
from tests.faults.harness import Workers, card_fraud_module
from tests.reference.handbook_features import DAY, DELAY, fast_features
from tests.waiting import until
from workers.worlds.card_fraud import World, simulate
from workers.worlds.card_fraud.records import event_records, feedback_records

WORLD = World(customers=180, terminals=150, days=49, radius=20.0)
HISTORY = 48 * DAY
"""A day is left: partitions may be so far apart, and a backlog of more would be out of step."""


@dataclass
class Asked:
    """What tests ask of a pipeline's topics."""

    settings: Settings
    pipeline: Pipeline

    async def count(self, topic: str) -> int:
        async with offsets_client(self.settings) as asked:
            return sum((await asked.ends(topic)).values())

    async def behind(self, role: str, topic: str) -> int:
        """Records of a topic that a group has not committed."""
        async with offsets_client(self.settings) as asked:
            ends = await asked.ends(topic)
            found = await asked.committed(group_id(self.pipeline.name, role), topic, ends)
        return sum(end - (found[number] or 0) for number, end in ends.items())

    async def scored(self) -> list[Scored]:
        decode = decoder(Scored).decode
        found = await read_topic(self.settings, self.pipeline.topics.scored)
        return [decode(record.value or b"") for record in found]

    async def examples(self) -> list[tuple[int, Example]]:
        decode = decoder(Example).decode
        found = await read_topic(self.settings, self.pipeline.topics.examples)
        return [(record.partition, decode(record.value or b"")) for record in found]


def check_features(frame: pd.DataFrame, scored: list[Scored]) -> None:
    """Each event is served once, with the features of the finished table."""
    rows = {str(name): row for row, name in enumerate(frame["transaction_id"].tolist())}
    assert Counter(one.event_id for one in scored) == Counter(list(rows))
    found = np.empty((len(frame), 15), np.float32)
    found[[rows[one.event_id] for one in scored]] = unpack([one.vector for one in scored])
    np.testing.assert_allclose(found, fast_features(frame), rtol=1e-6)


def check_examples(
    frame: pd.DataFrame, scored: list[Scored], examples: list[tuple[int, Example]]
) -> None:
    """What has matured has its label, as it was known when its horizon had passed."""
    served = {one.event_id: one for one in scored}
    frauds = dict(zip(map(str, frame["transaction_id"].tolist()), frame["is_fraud"], strict=True))
    ids, customers = (map(str, frame[name].tolist()) for name in ("transaction_id", "customer_id"))
    keys, homes = dict(zip(ids, customers, strict=True)), {one.key: at for at, one in examples}
    latest = Counter[int]()
    for one in scored:
        if (home := homes.get(keys[one.event_id])) is not None:
            latest[home] = max(latest[home], int(one.event_time))
    mature = {
        one.event_id
        for one in scored
        if keys[one.event_id] in homes
        and one.event_time < latest[homes[keys[one.event_id]]] - DELAY
    }
    assert Counter(one.event_id for _, one in examples) == Counter(list(mature))
    for _, example in examples:
        assert example.vector == served[example.event_id].vector
        assert example.label == frauds[example.event_id]
        assert example.labelled_at == example.event_time + DELAY
        assert example.origin == ("feedback" if example.label else "horizon")
    assert sum(example.label for _, example in examples) > 20


async def test_history_becomes_a_pipeline(settings: Settings, tmp_path: Path) -> None:
    frame = simulate(WORLD)
    seconds = frame["seconds"].to_numpy()
    past, live = frame[seconds < HISTORY], frame[seconds >= HISTORY]
    known = frame[(frame["is_fraud"] == 1) & (seconds + DELAY < HISTORY)]
    later = frame[(frame["is_fraud"] == 1) & (seconds + DELAY >= HISTORY) & (seconds < HISTORY)]
    pipeline = card_fraud_module(tmp_path / "work", "history")
    asked, topics = Asked(settings, pipeline), pipeline.topics
    events, labels = write_files(past, tmp_path, every=False)
    held = set(map(str, known["transaction_id"].tolist()))
    lines = labels.read_bytes().splitlines(keepends=True)
    labels.write_bytes(b"".join(lines[: len(held)]))
    command = (
        "workers.cli", "backfill", "--events", str(events), "--labels", str(labels), "--no-train",
    )  # fmt: skip
    with Workers(settings, pipeline, tmp_path / "work") as workers:
        first = workers.start("backfill", command)
        await until(lambda: asked.count(topics.scored), "some of it is there", said=first.said)
        first.kill()
        assert await asked.count(topics.scored) < len(past)
        with pytest.raises(ConfigurationError, match="has not ended"):
            await require_none_under_way(settings, pipeline)
        again = workers.start("backfill", command)
        assert await again.exit_code(120) == 0, again.said()
        assert "it goes on where history ends" in again.said()
        scored = await asked.scored()
        check_features(past, scored)
        check_examples(past, scored, await asked.examples())
        assert await asked.count(topics.feedback) == len(held)
        assert await asked.count(topics.predictions) == 0
        for role, topic in (
            ("score", topics.events),
            ("label", topics.scored),
            ("label", topics.feedback),
        ):
            assert await asked.behind(role, topic) == 0
        await require_none_under_way(settings, pipeline)
        with pytest.raises(ConfigurationError, match="has records already"):
            await written_at(settings, pipeline)

        for role in ("score", "label"):
            workers.start(role)
        async with producer(settings) as writing:
            told = feedback_records(later)
            await send_all(writing, ((topics.feedback, *one) for one in told))
            await until(lambda: _none(asked, "label", topics.feedback), "labels are taken in")
            await send_all(writing, ((topics.events, *one) for one in event_records(live)))
            await until(lambda: _none(asked, "score", topics.events), "events are scored")
            # the last of each partition is the end of a transaction, which is no record
            joined = settings.partitions
            await until(
                lambda: _none(asked, "label", topics.scored, joined), "what was served is joined"
            )
        scored = await asked.scored()
        check_features(frame, scored)
        check_examples(frame, scored, await asked.examples())
        assert await asked.count(topics.predictions) > 0


async def _none(asked: Asked, role: str, topic: str, most: int = 0) -> bool:
    return await asked.behind(role, topic) <= most
