"""What a file becomes: records by time, at a pace; what is wrong is one line with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.errors import ConfigurationError
from tests.unit.pipelines import declare
from workers.commands.sending import blocks, due, send
from workers.operations.files import TimedRecord, records

PIPELINE = declare()
EVENTS, FEEDBACK = PIPELINE.topics.events, PIPELINE.topics.feedback
ID, KEY, TIME = PIPELINE.event.id, PIPELINE.event.key, PIPELINE.event.time
T0 = 1_700_000_000


def ndjson(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(number: int, at: object) -> dict[str, object]:
    return {ID: f"o{number}", KEY: f"c{number % 2}", TIME: at, "amount": 1.5}


def label(number: int, at: float) -> dict[str, object]:
    return {"event_id": f"o{number}", "label": 1, "labelled_at": at, KEY: f"c{number % 2}"}


def test_events_and_labels_go_out_in_the_order_in_which_they_happened(tmp_path: Path) -> None:
    events = ndjson(tmp_path / "e.ndjson", *(row(n, T0 + 10 * n) for n in range(4)))
    labels = ndjson(tmp_path / "l.jsonl", label(0, T0 + 15), label(1, T0 + 1000))
    found = list(records(PIPELINE, events, labels))
    assert [one.topic for one in found] == [EVENTS, EVENTS, FEEDBACK, EVENTS, EVENTS, FEEDBACK]
    assert [one.at - T0 for one in found] == [0, 10, 15, 20, 30, 1000]
    assert found[1].key == b"c1"
    assert json.loads(found[1].value) == row(1, T0 + 10)
    assert json.loads(found[2].value) == {"event_id": "o0", "label": 1, "labelled_at": T0 + 15}
    assert found[2].key == b"c0"


def test_a_csv_is_text_and_its_empty_cells_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(f"{ID},{KEY},{TIME},amount\no1,c1,2023-11-14T22:13:20Z,\n")
    [found] = records(PIPELINE, path, None)
    assert (found.at, found.key) == (T0, b"c1")
    assert "amount" not in json.loads(found.value)


def test_a_row_whose_time_cannot_be_read_goes_with_the_one_before_it(tmp_path: Path) -> None:
    events = ndjson(tmp_path / "e.ndjson", row(0, T0), row(1, "soon"), row(2, T0 + 5))
    assert [one.at - T0 for one in records(PIPELINE, events, None)] == [0, 0, 5]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("e.txt", "", "is of no kind that is known - name it .ndjson"),
        ("e.ndjson", "{}\n", r"e.ndjson, row 1: there is no .*which keys events"),
        ("e.ndjson", "\n{\n", "e.ndjson, line 2: no JSON"),
        ("e.json", "[1]\n", "e.json, line 1: no JSON object"),
        ("gone.csv", None, "gone.csv cannot be read: No such file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        list(records(PIPELINE, tmp_path / name, None))


def test_a_label_says_its_event_and_since_when(tmp_path: Path) -> None:
    for lacking in ("event_id", "labelled_at"):
        said = {name: value for name, value in label(1, T0).items() if name != lacking}
        with pytest.raises(ConfigurationError, match=f"row 1: there is no '{lacking}'"):
            list(records(PIPELINE, None, ndjson(tmp_path / "l.ndjson", said)))


class Clock:
    """Goes on while somebody sleeps."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "nothing to send"),
        ({"events": Path("e.csv"), "world": "mail"}, "brings its own events and labels"),
        ({"events": Path("e.csv"), "limit": 3}, "--limit is of a --world"),
        ({"world": "mail", "rate": 1.0, "speed": 1.0}, "one of --rate and --speed"),
        ({"world": "post"}, "no world named 'post'"),
    ],
)
def test_what_cannot_be_sent_is_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        send("orders", **given)


def paced(times: list[float], rate: float | None, speed: float | None) -> list[tuple[int, float]]:
    """How many go out, and after how many seconds."""
    clock, sent = Clock(), list[tuple[int, float]]()
    made = (TimedRecord(at, EVENTS, b"", b"") for at in times)
    for block, pause in blocks(made, due(rate, speed), clock):
        clock.now += pause
        sent.append((len(block), round(clock.now - 50.0, 3)))
    return sent


def test_they_go_out_at_a_rate_or_in_event_time_or_at_once() -> None:
    assert paced([0.0] * 5000, None, None) == [(2000, 0.0), (2000, 0.0), (1000, 0.0)]
    at_a_rate = paced([0.0] * 1000, 500.0, None)
    assert sum(count for count, _ in at_a_rate) == 1000
    assert at_a_rate[-1][1] == pytest.approx(2.0, abs=0.06)
    assert paced([T0, T0, T0 + 60, T0 + 120], None, 60.0) == [(2, 0.0), (1, 1.0), (1, 2.0)]
