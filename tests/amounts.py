"""A pipeline that predicts a number, and made-up examples whose noise grows with a feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streams.records import Example
from streams.spec import (
    Column,
    Evaluate,
    Event,
    Feedback,
    Gate,
    Model,
    Pipeline,
    Policies,
    Retrain,
    Slices,
)
from streams.spec.layout import pack
from tests.synthetic import DAY, START, Reading

if TYPE_CHECKING:
    from torch import nn

QUANTILES = (0.05, 0.5, 0.95)
TRUE = (-1.6448536, 0.0, 1.6448536)
"""The standard normal distribution's quantiles."""


def network(features: int) -> nn.Module:
    """A small network: the point, then three quantiles."""
    from torch import nn

    return nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, 1 + len(QUANTILES)))


def declare(name: str = "amounts", **policies: object) -> Pipeline:
    """The pipeline under a name of its own."""
    return Pipeline(
        name=name,
        event=Event(Reading, id="reading_id", key="machine", time="at"),
        features=[Column("a"), Column("b"), Column("c", normalise=False), Column("constant")],
        model=Model(
            network=network,
            quantiles=QUANTILES,
            parameters={"epochs": 12, "batch_size": 64, "learning_rate": 0.01},
        ),
        feedback=Feedback(horizon="1d"),
        policies=Policies(
            retrain=Retrain(
                every="2d", window="6d", validate="1d", evaluate="1d", least_examples=200
            ),
            gate=Gate(resamples=200, margin=0.2),
            evaluate=Evaluate(slices=Slices(by=("a>3",))),
            **policies,  # type: ignore[arg-type]
        ),
        task="value",
    )


pipeline = declare()


def drawn(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Vectors [n, 4] and labels [n]: a mean of 500 with a trend, and noise of 3 to 60 or so."""
    random = np.random.default_rng(seed)
    vectors = random.normal([3.0, -50.0, 0.0, 7.0], [2.0, 10.0, 1.0, 0.0], (count, 4))
    middle, spread = truth(vectors)
    labels = middle + spread * random.normal(size=count)
    return vectors.astype(np.float32), labels


def truth(
    vectors: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the labels of vectors [n, 4], [n] each."""
    spread = 15.0 * np.exp((vectors[:, 1] + 50.0) / 20.0)
    return 500.0 + 40.0 * (vectors[:, 0] - 3.0), spread


def made(days: float = 6.0, per_day: int = 500, seed: int = 0, first: float = 0.0) -> list[Example]:
    """Examples, evenly over some days."""
    count = int(days * per_day)
    vectors, labels = drawn(count, seed)
    times = START + (first + np.arange(count) / per_day) * DAY
    return [
        Example(
            event_id=f"{seed}-{i}",
            event_time=float(times[i]),
            vector=vector,
            score=[0.0] * (1 + len(QUANTILES)),
            version=0,
            label=float(labels[i]),
            labelled_at=float(times[i]) + DAY,
            origin="feedback",
            key=f"machine-{i % 7}",
        )
        for i, vector in enumerate(pack(vectors))
    ]
