"""The pipelines of the worlds take what the worlds' readers give."""

from __future__ import annotations

import base64
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from streams.testing import Rehearsal
from workers.environment import find_pipeline
from workers.worlds.catalogue import WORLDS
from workers.worlds.digits import read_small

LINES = 60
ROWS: dict[str, tuple[dict[str, Any], float]] = {
    "digits": ({"image": base64.b64encode(bytes(784)).decode()}, 7.0),
    "mail": ({"subject": "Grüße", "body": "hello\n<b>now</b>"}, 1.0),
    "liver": (
        {"age": 58.1, "male": 1, "weight": 83.2, "chol": 190.0, "hdl": 50.0}
        | dict.fromkeys(("nafld", "hypertension", "dyslipidemia", "heart"), 0),
        0.0,
    ),
    "groceries": (
        {"amount": 12.5, "quantity": 3.0, "baskets": 2.0, "discount": -1.0, "weekday": 7},
        14.25,
    ),
    "machine": ({f"f{number}": float(number) for number in range(1, 10)}, 1.0),
    "speech": ({"sound": base64.b64encode(bytes(4000)).decode(), "rate": 11_025}, 9.0),
}
"""Fields as a world's reader gives them, and a label."""


@pytest.mark.parametrize("name", ROWS)
async def test_events_and_labels_of_its_world_are_taken(name: str) -> None:
    pipeline, key, (fields, label) = find_pipeline(name), WORLDS[name].key, ROWS[name]
    horizon, start = pipeline.feedback.horizon_seconds, 1_000_000_000.0

    def event(number: int, at: float) -> dict[str, Any]:
        return {"event_id": f"e{number}", key: "one", "at": at, **fields}

    rehearsal = Rehearsal(pipeline)
    first = await rehearsal.score([event(0, start)])
    assert first.dead_letters == []
    known = start + horizon
    fed = await rehearsal.label([{"event_id": "e0", "label": label, "labelled_at": known}])
    assert fed.dead_letters == []
    later = await rehearsal.score([event(1, known + 1)])
    assert [one.event_id for one in later.predictions] == ["e1"]
    [example] = later.examples
    assert (example.event_id, example.label, example.origin) == ("e0", label, "feedback")


@pytest.mark.parametrize("name", ROWS)
def test_a_pipeline_is_short(name: str) -> None:
    path = Path(__file__).parents[4] / "streams" / "pipelines" / f"{name}.py"
    assert len(path.read_text().splitlines()) <= LINES


async def test_the_images_of_a_real_world_become_rows() -> None:
    pipeline = find_pipeline("digits")
    found = list(islice(read_small(), 50))
    events = [{"event_id": h.event_id, "scanner": h.key, "at": h.at, **h.fields} for h in found]
    result = await Rehearsal(pipeline).score(events)
    rows = pipeline.layout.unpack([one.vector for one in result.scored])
    assert [row.tobytes() for row in rows["image"]] == [
        base64.b64decode(one.fields["image"]) for one in found
    ]
