"""Events and labels in files (ndjson, CSV), read as records to publish."""

from __future__ import annotations

import csv
import heapq
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from streams.errors import ConfigurationError
from streams.spec import Pipeline
from streams.spec.fields import json_name
from streams.spec.times import parse

Row = Mapping[str, Any]
_SHOWN = 80
"""So many bytes of a record are shown."""


class TimedRecord(NamedTuple):
    """A record to publish, and when it happens."""

    at: float
    """Seconds since 1970: an event's time, or when a label became known."""
    topic: str
    key: bytes
    value: bytes


class FilesRead:
    """How far files have been read."""

    def __init__(self) -> None:
        self._files: list[tuple[BinaryIO, int]] = []
        self.size = 0
        """Bytes of all files that are to be read."""

    def expect(self, path: Path) -> None:
        """Count a file that will be read."""
        with suppress(OSError):
            self.size += path.stat().st_size

    def begun(self, opened: BinaryIO) -> None:
        """Follow a file that is read from now on."""
        self._files.append((opened, os.fstat(opened.fileno()).st_size))

    @property
    def done(self) -> int:
        """Bytes that have been read."""
        return sum(size if opened.closed else opened.tell() for opened, size in self._files)


class InOrder:
    """Records that have to come in the order of their times.

    Raises:
        ConfigurationError: one comes too late.
    """

    def __init__(self, found: Iterable[TimedRecord]) -> None:
        self._found = found

    def __iter__(self) -> Iterator[TimedRecord]:
        before = dict[str, TimedRecord]()
        for one in self._found:
            last = before.get(one.topic)
            if last is not None and one.at < last.at:
                raise ConfigurationError(
                    f"the records for {one.topic} are not in the order of their times: "
                    f"{last.at - one.at:,.0f} s back, at {_shown(one.value)} - sort the file"
                )
            before[one.topic] = one
            yield one


def _shown(value: bytes) -> str:
    return value[:_SHOWN].decode(errors="replace")


ToRecord = Callable[[Pipeline, Row, str, float], TimedRecord]


def records(
    pipeline: Pipeline, events: Path | None, labels: Path | None, reading: FilesRead | None = None
) -> Iterator[TimedRecord]:
    """The records of both files, by time; each file is taken to be in the order of its times.

    Of the same time labels come first: an event sees what was known when it happened.

    Raises:
        ConfigurationError: a file cannot be read, is of no known kind, or lacks a column; where.
    """
    reading, made = reading or FilesRead(), []
    for record, path in ((label_record, labels), (event_record, events)):
        if path is not None:
            reading.expect(path)
            made.append(_made(record, pipeline, path, reading))
    return heapq.merge(*made, key=attrgetter("at"))


def _made(
    record: ToRecord, pipeline: Pipeline, path: Path, reading: FilesRead
) -> Iterator[TimedRecord]:
    before = 0.0
    for place, row in _rows(path, reading):
        made = record(pipeline, row, f"{path}, row {place}", before)
        before = made.at
        yield made


def event_record(pipeline: Pipeline, row: Row, place: str, before: float) -> TimedRecord:
    """An event as a record; `place` names it in errors.

    A row without a time that can be read happens at `before`, when the one before it did.

    Raises:
        ConfigurationError: it lacks the field that keys events.
    """
    event = pipeline.event
    key, time = (json_name(event.schema, name) for name in (event.key, event.time))
    at, named = _time(row.get(time), before), _named(place, row, key, "keys events")
    return TimedRecord(at, pipeline.topics.events, named, msgspec.json.encode(row))


def label_record(pipeline: Pipeline, row: Row, place: str, before: float) -> TimedRecord:
    """A label as a record; as `event_record`.

    Raises:
        ConfigurationError: it lacks `event_id`, `labelled_at` or the field that keys events.
    """
    key = json_name(pipeline.event.schema, pipeline.event.key)
    named = _named(place, row, key, "keys events and their labels")
    _named(place, row, "event_id", "names the event")
    _named(place, row, "labelled_at", "says since when the label is known")
    at = _time(row["labelled_at"], before)
    said = {name: value for name, value in row.items() if name != key} | {"labelled_at": at}
    return TimedRecord(at, pipeline.topics.feedback, named, msgspec.json.encode(said))


def _named(place: str, row: Row, column: str, what: str) -> bytes:
    if row.get(column) is None:
        raise ConfigurationError(f"{place}: there is no {column!r}, which {what}")
    return str(row[column]).encode()


def _time(given: Any, before: float) -> float:
    with suppress(ValueError, TypeError):
        return parse(given if isinstance(given, int | float) else str(given))
    return before


def _rows(path: Path, reading: FilesRead) -> Iterable[tuple[int, Row]]:
    """The rows, numbered from 1; cells of a CSV are text, which pipelines read as what they are."""
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ConfigurationError(
            f"{path} is of no kind that is known - name it {', '.join(_READERS)}"
        )
    try:
        yield from enumerate(read(path, reading), 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _json(path: Path, reading: FilesRead) -> Iterator[Row]:
    with path.open("rb") as lines:
        reading.begun(lines)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = _row(line)
            except ValueError as error:
                raise ConfigurationError(f"{path}, line {number}: no JSON ({error})") from None
            if not isinstance(row, dict):
                raise ConfigurationError(f"{path}, line {number}: no JSON object")
            yield row


def _row(line: bytes) -> Any:
    """The JSON of a line. Raises `ValueError`."""
    try:
        return msgspec.json.decode(line)
    except ValueError:
        return json.loads(line)  # Python's has NaN, and says where an error is


def _csv(path: Path, reading: FilesRead) -> Iterator[Row]:
    with path.open("rb") as opened:
        reading.begun(opened)
        lines = io.TextIOWrapper(opened, encoding="utf-8-sig", newline="")
        for row in csv.DictReader(lines):
            # an empty cell is a missing value
            yield {name: value for name, value in row.items() if value not in ("", None)}


_READERS: dict[str, Callable[[Path, FilesRead], Iterator[Row]]] = {
    ".ndjson": _json,
    ".jsonl": _json,
    ".json": _json,
    ".csv": _csv,
}
