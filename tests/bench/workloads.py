"""What every contender of the throughput benchmark does with an event: the same, from here.

Four products: readings of sensors, whose 32 features need no state, card payments, whose windows
lie in Redis, pictures of 28 x 28, and messages of up to 64 words. Their pipelines are ours; the
rest of this module is for the rivals, and imports nothing that their environment lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from streams.records import Prediction, Scored, encode
from streams.spec import (
    Cleaning,
    Column,
    Columns,
    Event,
    Feedback,
    Image,
    Model,
    Pipeline,
    Text,
    Transform,
)
from streams.spec.layout import Rows

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


class Picture(BaseModel):
    """What a camera reports: 784 bytes in base64."""

    picture_id: str
    camera: str
    pixels: str
    taken_at: datetime


class Message(BaseModel):
    """What somebody writes."""

    message_id: str
    sender: str
    text: str
    sent_at: datetime


SIDE, TOKENS, VOCABULARY = 28, 64, 20_000


def of_pixels(features: int) -> Any:
    """A small network for pictures: the benchmark is of what is around it."""
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 16), nn.ReLU(), nn.Linear(16, 1))


def of_words(features: int) -> Any:
    """A small network for messages."""
    from torch import nn

    words = nn.Embedding(VOCABULARY, 4, padding_idx=0)
    return nn.Sequential(words, nn.Flatten(), nn.Linear(TOKENS * 4, 1))


pictures = Pipeline(
    name="pictures",
    event=Event(Picture, id="picture_id", key="camera", time="taken_at"),
    cleaning=Cleaning(duplicates="0s"),
    features=[],
    inputs=[Image("image", field="pixels", shape=(SIDE, SIDE))],
    model=Model(network=of_pixels),
    feedback=Feedback(horizon="1d", missing=0),
)
messages = Pipeline(
    name="messages",
    event=Event(Message, id="message_id", key="sender", time="sent_at"),
    cleaning=Cleaning(duplicates="0s"),
    features=[],
    inputs=[Text("text", field="text", tokens=TOKENS, vocabulary=VOCABULARY)],
    model=Model(network=of_words),
    feedback=Feedback(horizon="1d", missing=0),
)


class PlainReading(msgspec.Struct, frozen=True, gc=False):
    """A reading, as a rival decodes and validates it."""

    reading_id: str
    sensor_id: str
    value: float
    read_at: datetime


class PlainPicture(msgspec.Struct, frozen=True, gc=False):
    """A picture, as a rival decodes and validates it."""

    picture_id: str
    camera: str
    pixels: str
    taken_at: datetime


class PlainMessage(msgspec.Struct, frozen=True, gc=False):
    """A message, as a rival decodes and validates it."""

    message_id: str
    sender: str
    text: str
    sent_at: datetime


class PlainPayment(msgspec.Struct, frozen=True, gc=False):
    """A card payment, as a rival decodes and validates it."""

    transaction_id: str
    customer_id: str
    terminal_id: str
    amount: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
    tx_time: datetime


@dataclass(frozen=True)
class Workload:
    """One of the products, by hand."""

    pipeline: Pipeline
    event: type[msgspec.Struct]
    """What an event is decoded to."""
    declared: str
    """Its pipeline's name in this module."""
    number: str = ""
    """Its numeric field, where it has one."""
    windows: bool = False
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
        read = [self.number] if self.number else [one.field for one in self.pipeline.inputs]
        kind = np.float64 if self.number else np.object_
        columns = {
            name: np.fromiter((getattr(event, name) for event in events), kind, len(events))
            for name in read
        }
        return Batch(
            ids=[getattr(event, spec.id) for event in events],
            events=events,
            columns={**columns, spec.time: times},
            times=times,
        )

    def rows(self, batch: Batch) -> Rows:
        """What the model sees of a batch's events, where no windows are needed."""
        if self.number:
            return reading_vectors(batch.columns)
        tensors, bad = self.pipeline.read_inputs(batch.columns)
        assert not bad
        return self.pipeline.layout.rows(np.empty((len(batch.ids), 0), np.float32), tensors)

    @property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        return _decoders[self.event]

    def outputs(
        self,
        batch: Batch,
        rows: Rows,
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
                self.pipeline.layout.pack(rows),
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
    columns: Columns
    """The numeric field, or those of inputs, and the time, [n] each."""
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
    "stateless": Workload(stateless, PlainReading, "stateless", number="value"),
    "card-fraud": Workload(card_fraud, PlainPayment, "card_fraud", number="amount", windows=True),
    "pictures": Workload(pictures, PlainPicture, "pictures"),
    "messages": Workload(messages, PlainMessage, "messages"),
}
_decoders = {w.event: msgspec.json.Decoder(list[w.event]) for w in WORKLOADS.values()}  # type: ignore[name-defined]
