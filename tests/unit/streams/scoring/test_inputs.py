"""Events with inputs through scoring: a bad one costs nobody else, and what is logged is exact."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from streams.spec import Column, Count, Event, Feedback, Image, Model, Pipeline, Text
from streams.spec.layout import Rows, features_of
from streams.testing import Rehearsal, sample_events


class Parcel(BaseModel):
    """Something that is photographed."""

    parcel_id: str
    line: str
    at: datetime
    weight: float
    photo: str
    note: str | None = None


PIPELINE = Pipeline(
    name="parcels",
    event=Event(Parcel, id="parcel_id", key="line", time="at"),
    features=[Column("weight"), Count(key="line", over="1h")],
    inputs=[Image("photo", "photo", (2, 2)), Text("note", "note", tokens=3, vocabulary=99)],
    model=Model(network=lambda features: None),
    feedback=Feedback(horizon="1d", missing=0),
)


def event(number: int, **changes: Any) -> dict[str, Any]:
    made = {
        "parcel_id": f"p{number}",
        "line": "a",
        "at": f"2024-01-01T12:{number:02}:00Z",
        "weight": float(number),
        "photo": base64.b64encode(bytes([number] * 4)).decode(),
        "note": "fragile glass",
    }
    return {**made, **changes}


def brightness(rows: Rows) -> NDArray[np.float32]:
    """A model: how bright the photo is."""
    photos = np.asarray(rows["photo"], np.float32).reshape(len(rows), -1)
    return np.asarray(photos.mean(axis=1, keepdims=True) / 255)


async def test_a_bad_one_is_set_aside_and_the_others_are_scored() -> None:
    events = [
        event(1),
        event(2, photo="?"),
        event(3),
        event(4, photo=base64.b64encode(b"12345").decode()),
        event(5, note=None),
        event(6),
    ]
    found = await Rehearsal(PIPELINE, brightness).score(events)
    assert [one.event_id for one in found.predictions] == ["p1", "p3", "p6"]
    assert [one.score for one in found.predictions] == [np.float32(n) / 255 for n in (1, 3, 6)]
    details = {one["cause"]: one["detail"] for one in found.dead_letters}
    assert len(found.dead_letters) == 3
    assert details["input"] == "photo: has 5 bytes, not 4"
    assert details["missing"] == "note: is null and has no replacement"
    rows = PIPELINE.layout.unpack([one.vector for one in found.scored])
    assert features_of(rows).tolist() == [[1.0, 1.0], [3.0, 2.0], [6.0, 3.0]]
    assert rows["photo"][:, 0, 0].tolist() == [1, 3, 6]
    assert (rows["note"][:, 2] == 0).all()
    assert {one.schema for one in found.scored} == {PIPELINE.schema_hash}


async def test_one_after_the_other_is_the_same() -> None:
    events = sample_events(PIPELINE, 20)
    together = await Rehearsal(PIPELINE).score(events)
    rehearsal, alone = Rehearsal(PIPELINE), []
    for one in events:
        alone += (await rehearsal.score([one])).scored
    assert [one.vector for one in alone] == [one.vector for one in together.scored]
    assert len(alone) >= 15


async def test_an_example_has_the_row_that_was_served() -> None:
    rehearsal = Rehearsal(PIPELINE)
    scored = (await rehearsal.score([event(1), event(2)])).scored
    later = await rehearsal.score([event(3, at="2024-01-03T12:00:00Z")])
    assert [one.vector for one in later.examples] == [one.vector for one in scored]
