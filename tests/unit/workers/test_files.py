"""Files of events and labels, read by time."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.errors import ConfigurationError
from tests.unit.pipelines import declare
from workers.operations.files import FilesRead, InOrder, records

PIPELINE = declare()


def written(folder: Path, *rows: str) -> Path:
    path = folder / "events.ndjson"
    path.write_text("\n".join(rows))
    return path


def event(number: int, at: object) -> str:
    said = f'"{at}"' if isinstance(at, str) else at
    return f'{{"order_id": "o{number}", "shopper": "ann", "amount": 1, "at": {said}}}'


def test_a_label_known_at_an_events_time_comes_before_it(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("event_id,shopper,label,labelled_at\no0,ann,1,2000\n")
    reading = FilesRead()
    found = list(
        records(PIPELINE, written(tmp_path, event(0, 1000), event(1, 2000)), labels, reading)
    )
    topics = PIPELINE.topics
    assert [one.topic for one in found] == [topics.events, topics.feedback, topics.events]
    assert reading.done == reading.size > 0


def test_records_out_of_order_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, event(0, 1000), event(1, "when?"), event(2, 400))
    with pytest.raises(ConfigurationError, match=r"600 s back, at .*o2.* - sort the file"):
        list(InOrder(records(PIPELINE, path, None)))


def test_a_number_that_json_does_not_know_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, event(0, 1000).replace(": 1,", ": NaN,"))
    [found] = InOrder(records(PIPELINE, path, None))
    assert b"null" in found.value
