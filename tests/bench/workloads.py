"""What every contender of the throughput benchmark does with an event: the same, from here.

Two products: readings of sensors, whose 32 features need no state, and card payments, whose
windows lie in Redis. Their pipelines are ours; the rest of this module is for the rivals, and
imports nothing that their environment lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from streams.pipelines.card_fraud import is_night, is_weekend, network
from streams.pipelines.card_fraud import pipeline as handbook
from streams.records import Prediction, Scored, encode, pack
from streams.spec import Cleaning, Column, Columns, Event, Feedback, Model, Pipeline, Transform

VERSION, THRESHOLD = 1, 0.5
"""Of the model that all contenders ask."""
BATCH = 1024
"""Most events in a contender's batch, and in its request to Triton."""


class Reading(BaseModel):
    """What a sensor reports: 110 bytes of JSON."""

    reading_id: str
    sensor_id: str
    value: Annotated[float, Field(allow_inf_nan=False)]
    read_at: datetime


def harmonic(order: int, columns: Columns) -> NDArray[np.float64]:
    """The sine of a multiple of the value; [n]."""
    return np.asarray(np.sin(order * columns["value"]))


HARMONICS = {f"harmonic_{order}": partial(harmonic, order) for order in range(1, 32)}

stateless = Pipeline(
    name="stateless",
    event=Event(Reading, id="reading_id", key="sensor_id", time="read_at"),
    cleaning=Cleaning(duplicates="0s"),
    features=[Column("value"), *(Transform(name, f) for name, f in HARMONICS.items())],
    model=Model(network=network),
    feedback=Feedback(horizon="1d", missing=0),
)
card_fraud = replace(handbook, name="payments")


class PlainReading(msgspec.Struct, frozen=True, gc=False):
    """A reading, as a rival decodes and validates it."""

    reading_id: str
    sensor_id: str
    value: float
    read_at: datetime


class PlainPayment(msgspec.Struct, frozen=True, gc=False):
    """A card payment, as a rival decodes and validates it."""

    transaction_id: str
    customer_id: str
    terminal_id: str
    amount: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
    tx_time: datetime


@dataclass(frozen=True)
class Workload:
    """One of the two products, by hand."""

    pipeline: Pipeline
    event: type[msgspec.Struct]
    """What an event is decoded to."""
    number: str
    """Its numeric field."""
    windows: bool
    """Whether there are window features, from Redis."""

    def decode(self, values: Sequence[bytes | None]) -> Batch:
        """Decode and validate a batch, as one JSON array: twice as fast as one by one.

        Raises:
            msgspec.MsgspecError: a record is not an event. A rival ends there.
        """
        joined = b"[" + b",".join([value or b"" for value in values]) + b"]"
        events: list[Any] = self._decoder.decode(joined)
        spec = self.pipeline.event
        times = np.array([getattr(event, spec.time).timestamp() for event in events])
        numbers = np.array([getattr(event, self.number) for event in events])
        return Batch(
            ids=[getattr(event, spec.id) for event in events],
            events=events,
            columns={self.number: numbers, spec.time: times},
            times=times,
        )

    @property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        return _decoders[self.event]

    def outputs(
        self,
        batch: Batch,
        vectors: NDArray[np.float32],
        scores: NDArray[np.float32],
        origins: Sequence[str],
    ) -> list[tuple[bytes, bytes]]:
        """A prediction and what was scored for each event, as our own worker writes them.

        Scores are float32 [n, 1]; an origin is `<partition>-<offset>`.
        """
        classes, keys = self.pipeline.decision.classes, self.pipeline.plan.label_keys
        schema = self.pipeline.schema_hash
        return [
            (
                encode(
                    Prediction(name, at, score, classes[score >= THRESHOLD], VERSION, False, origin)
                ),
                encode(
                    Scored(
                        name,
                        at,
                        {key: getattr(event, key) for key in keys},
                        vector,
                        score,
                        VERSION,
                        schema=schema,
                        decision=int(score >= THRESHOLD),
                    )
                ),
            )
            for name, at, event, vector, score, origin in zip(
                batch.ids,
                batch.times.tolist(),
                batch.events,
                pack(vectors),
                scores[:, 0].tolist(),
                origins,
                strict=True,
            )
        ]


@dataclass(frozen=True)
class Batch:
    """Events of one batch, in the order of the log."""

    ids: list[str]
    events: list[Any]
    columns: Mapping[str, NDArray[np.float64]]
    """The numeric field and the time, [n] each."""
    times: NDArray[np.float64]
    """[n], seconds since 1970."""


def reading_vectors(columns: Columns) -> NDArray[np.float32]:
    """The 32 features of readings, [n, 32]."""
    vectors = np.empty((len(columns["value"]), 1 + len(HARMONICS)), np.float32)
    vectors[:, 0] = columns["value"]
    for column, function in enumerate(HARMONICS.values(), 1):
        vectors[:, column] = function(columns)
    return vectors


def payment_vectors(columns: Columns, windows: NDArray[np.float64]) -> NDArray[np.float32]:
    """The 15 features of payments, [n, 15], from the 12 of their windows."""
    vectors = np.empty((len(windows), 3 + windows.shape[1]), np.float32)
    vectors[:, 0] = columns["amount"]
    vectors[:, 1] = is_weekend(columns)
    vectors[:, 2] = is_night(columns)
    vectors[:, 3:] = windows
    return vectors


WORKLOADS = {
    "stateless": Workload(stateless, PlainReading, "value", windows=False),
    "card-fraud": Workload(card_fraud, PlainPayment, "amount", windows=True),
}
_decoders = {w.event: msgspec.json.Decoder(list[w.event]) for w in WORKLOADS.values()}  # type: ignore[name-defined]
