"""A small pipeline, and made-up examples that a network can learn: for tests of training."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray
from pydantic import BaseModel

from streams.kafka.connection import producer
from streams.records import Example, encode
from streams.settings import Settings
from streams.spec import (
    Column,
    Event,
    Feedback,
    Gate,
    Model,
    Pipeline,
    Policies,
    Retrain,
)
from streams.spec.layout import pack
from workers.examples.reading import Examples, columns

if TYPE_CHECKING:
    from torch import nn

DAY = 86_400.0
START = 1_700_000_000.0
"""Event time of the first example."""


class Reading(BaseModel):
    """An event with four numbers."""

    reading_id: str
    machine: str
    at: datetime
    a: float
    b: float
    c: float
    constant: float


def network(features: int) -> nn.Module:
    """A small network."""
    from torch import nn

    return nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))


def declare(name: str = "synthetic", **policies: object) -> Pipeline:
    """The pipeline under a name of its own."""
    return Pipeline(
        name=name,
        event=Event(Reading, id="reading_id", key="machine", time="at"),
        features=[Column("a"), Column("b"), Column("c", normalise=False), Column("constant")],
        model=Model(network=network, parameters={"epochs": 4, "batch_size": 128}),
        feedback=Feedback(horizon="1d", missing=0),
        policies=Policies(
            retrain=Retrain(
                every="2d", window="6d", validate="1d", evaluate="1d", least_examples=200
            ),
            gate=Gate(resamples=200, **policies),  # type: ignore[arg-type]
        ),
    )


pipeline = declare(margin=0.5, confidence=0.999, calibration=10.0)
"""With a gate that rejects only what is beyond doubt: four epochs teach little."""


def made(days: float = 6.0, per_day: int = 500, seed: int = 0, first: float = 0.0) -> list[Example]:
    """Examples whose label follows from `a` and `b`, one in about eight positive."""
    random = np.random.default_rng(seed)
    count = int(days * per_day)
    times = START + first * DAY + np.sort(random.uniform(0, days * DAY, count))
    vectors = random.normal([3.0, -50.0, 0.0, 7.0], [2.0, 10.0, 1.0, 0.0], (count, 4))
    packed = pack(vectors.astype(np.float32))
    odds = 1.2 * (vectors[:, 0] - 3) / 2 - 1.5 * (vectors[:, 1] + 50) / 10 - 3
    labels = random.random(count) < 1 / (1 + np.exp(-odds))
    return [
        Example(
            event_id=f"{seed}-{i}",
            event_time=float(times[i]),
            vector=packed[i],
            score=0.0,
            version=0,
            label=float(labels[i]),
            labelled_at=float(times[i]) + DAY,
            origin="feedback",
            key=f"machine-{i % 7}",
        )
        for i in range(count)
    ]


def in_columns(examples: Sequence[Example]) -> Examples:
    """As the trainer reads them."""
    return columns(examples, pipeline)


def scores_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """A made-up model: a probability from the first column, [n, 1]."""
    return (1 / (1 + np.exp(-vectors[:, :1]))).astype(np.float32)


async def write_examples(
    settings: Settings, topic: str, examples: Sequence[Example], partitions: int = 4
) -> None:
    """Produce examples as the labelling application does: one partition per key, in time order."""
    writing: AIOKafkaProducer = producer(settings)
    await writing.start()
    try:
        batches = {p: writing.create_batch() for p in range(partitions)}
        for example in examples:
            partition = hash_of(example.key) % partitions
            record = {"key": example.key.encode(), "value": encode(example), "timestamp": None}
            if batches[partition].append(**record) is None:
                await writing.send_batch(batches[partition], topic, partition=partition)
                batches[partition] = writing.create_batch()
                batches[partition].append(**record)
        for partition, batch in batches.items():
            if batch.record_count():
                await writing.send_batch(batch, topic, partition=partition)
        await writing.flush()
    finally:
        await writing.stop()


def hash_of(key: str) -> int:
    """A number for a key, the same in every process."""
    return sum(key.encode())
