"""A world's timeline: events by time, and each label when it becomes known, if it ever does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from streams import spec
from streams.errors import ConfigurationError
from tests.unit.pipelines import declare
from workers.operations.worlds import world_records
from workers.worlds.catalogue import WORLDS, find_world
from workers.worlds.world import DataWorld, EventRow, Happening, LabelRow


class Small(BaseModel):
    event_id: str
    key: str
    at: float
    x: float


T0 = 1_700_000_000.0


def read() -> Iterator[Happening]:
    """Five events ten seconds apart; the first is known last, the third never."""
    delays = (100.0, 5.0, None, 15.0, 10.0)
    for number, delay in enumerate(delays):
        at = T0 + 10 * number
        label = None if delay is None else float(number)
        yield Happening(f"e{number}", f"k{number % 2}", at, {"x": number}, label, at + (delay or 0))


WORLD = DataWorld("small", "key", "none", "x", "made", (), read)


def said(found: EventRow | LabelRow) -> str:
    row = found.row
    return (
        f"{row['event_id']}={row['label']:.0f}" if isinstance(found, LabelRow) else row["event_id"]
    )


def test_labels_stand_between_events_where_they_become_known(tmp_path: Path) -> None:
    found = list(WORLD.timeline(tmp_path, print))
    # a label that is known when an event comes is before it
    assert [said(one) for one in found] == (
        ["e0", "e1", "e1=1", "e2", "e3", "e4", "e3=3", "e4=4", "e0=0"]
    )
    assert [one.at for one in found] == sorted(one.at for one in found)
    assert found[0].row == {"event_id": "e0", "key": "k0", "at": T0, "x": 0}
    assert found[2].row == {"event_id": "e1", "key": "k1", "label": 1.0, "labelled_at": T0 + 15}


def test_a_limit_counts_events_and_gives_all_their_labels(tmp_path: Path) -> None:
    assert [said(one) for one in WORLD.events(tmp_path, print, 3)] == ["e0", "e1", "e2"]
    assert [said(one) for one in WORLD.labels(tmp_path, print, 3)] == ["e1=1", "e0=0"]


def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    def endless() -> Iterator[Happening]:
        yield next(read())
        raise AssertionError("read on")

    world = DataWorld("endless", "key", "none", "x", "made", (), endless)
    assert said(next(world.events(tmp_path, print))) == "e0"


def test_a_world_goes_to_a_pipeline_that_has_its_names(tmp_path: Path) -> None:
    pipeline = declare()
    world = DataWorld("orders", "shopper", "none", "amount", "made", (), read)
    with pytest.raises(ConfigurationError, match="says 'event_id' where orders reads 'order_id'"):
        world_records(pipeline, world, tmp_path, print)
    with pytest.raises(ConfigurationError, match="says 'key' where orders reads 'shopper'"):
        world_records(pipeline, WORLD, tmp_path, print)


def test_records_are_as_a_producer_writes_them(tmp_path: Path) -> None:
    pipeline = declare(
        event=spec.Event(Small, id="event_id", key="key", time="at"),
        cleaning=spec.Cleaning(),
        features=[spec.Column("x"), spec.Count(key="key", over="1h")],
    )
    found = list(world_records(pipeline, WORLD, tmp_path, print, 2))
    assert [one.topic for one in found] == [pipeline.topics.events] * 2 + (
        [pipeline.topics.feedback] * 2
    )
    assert [one.key for one in found] == [b"k0", b"k1", b"k1", b"k0"]
    assert json.loads(found[0].value) == {"event_id": "e0", "key": "k0", "at": T0, "x": 0}
    assert json.loads(found[2].value) == {"event_id": "e1", "label": 1.0, "labelled_at": T0 + 15}


def test_worlds_are_known_by_name() -> None:
    assert find_world("mail") is WORLDS["mail"]
    with pytest.raises(ConfigurationError, match="no world named 'post' - use one of digits, "):
        find_world("post")
