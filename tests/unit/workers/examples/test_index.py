"""What is read of the examples topic into the index, and what is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from streams.kafka.reading import TopicFollower
from streams.records import encode
from streams.settings import Settings
from tests.synthetic import made, pipeline
from workers.examples.index import ExampleFollower


async def test_records_that_are_no_examples_of_the_vector_are_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, third, fourth, *_ = made(0.1)
    values = [
        encode(msgspec.structs.replace(first, schema=pipeline.schema_hash)),
        None,
        b"{",
        encode(second),
        encode(msgspec.structs.replace(third, schema="another")),
        encode(msgspec.structs.replace(fourth, vector=bytes(8))),
    ]
    records = [
        SimpleNamespace(topic="P.examples", partition=0, offset=offset, value=value)
        for offset, value in enumerate(values)
    ]

    async def poll(*_: Any, **__: Any) -> list[Any]:
        return records

    monkeypatch.setattr(TopicFollower, "poll", poll)
    tail = ExampleFollower(Settings(kafka="nowhere:1"), pipeline)
    assert await tail.poll() == 6
    assert (len(tail.index), tail.left_out) == (2, 4)
    span = (min(first.event_time, second.event_time), max(first.event_time, second.event_time) + 1)
    assert tail.index.window(*span).ranges == {0: (0, 4)}
