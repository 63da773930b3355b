"""The format of `P.dead-letters`: bad records as they came, with their cause and origin as headers.

A replay is noted in the same topic: a record with the cause `replayed` that names the dead letter
it stands for. So a dead letter is not replayed twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from streams.errors import BadRecord
from streams.ports.batches import Headers, OutputRecord, SourceRecord

Rejected = tuple[SourceRecord, BadRecord]
"""A bad record, and what is wrong with it."""

_REPLAYED = "replayed"
_ATTEMPT = "attempt"
"""Header of a replayed record: how many times it has been replayed."""
_OF = "replay-of"
_FROM = "replayed-from"


@dataclass(frozen=True)
class DeadLetter:
    """A record that could not be processed, whole, and why."""

    partition: int
    offset: int
    """Where it lies in the dead letters; together its reference, `<partition>-<offset>`."""
    at: float
    """When it was set aside, seconds since 1970."""
    cause: str
    detail: str
    source: tuple[str, int, int]
    """Topic, partition and offset of the record that it is."""
    attempts: int
    """How many times it had been replayed before."""
    key: bytes | None
    value: bytes | None
    replayed: bool = field(default=False, compare=False)
    """Whether it has been put back since."""

    @property
    def reference(self) -> str:
        """What names it on the command line."""
        return f"{self.partition}-{self.offset}"

    def replay_headers(self) -> Headers:
        """Headers of the record that is put back."""
        return [(_FROM, self.reference.encode()), (_ATTEMPT, b"%d" % (self.attempts + 1))]

    def replay_note(self) -> Headers:
        """Headers of the record that notes, in the dead letters, that it was put back."""
        return [
            ("cause", _REPLAYED.encode()),
            ("detail", f"onto {self.source[0]}".encode()),
            (_OF, self.reference.encode()),
        ]


def dead_letter(record: SourceRecord, error: BadRecord) -> OutputRecord:
    """The record to write for a bad one.

    One that was replayed (`driftloop dlq replay`) keeps the count of its attempts.
    """
    headers = {
        "cause": error.cause,
        "detail": error.detail[:1000],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
    }
    written = [(name, text.encode()) for name, text in headers.items()]
    written += [header for header in record.headers if header[0] == _ATTEMPT]
    return record.key, record.value, written


def parse(records: Iterable[SourceRecord]) -> list[DeadLetter]:
    """The dead letters in records of the topic, oldest first."""
    found: dict[str, DeadLetter] = {}
    replayed: set[str] = set()
    for record in sorted(records, key=lambda r: (r.timestamp, r.partition, r.offset)):
        headers = {name: text.decode(errors="replace") for name, text in record.headers}
        if headers.get("cause") == _REPLAYED:
            replayed.add(headers[_OF])
        elif "cause" in headers:
            letter = _letter(record, headers)
            found[letter.reference] = letter
    return [replace(letter, replayed=reference in replayed) for reference, letter in found.items()]


def _letter(record: SourceRecord, headers: dict[str, str]) -> DeadLetter:
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        at=record.timestamp / 1000,
        cause=headers["cause"],
        detail=headers.get("detail", ""),
        source=(headers["topic"], int(headers["partition"]), int(headers["offset"])),
        attempts=int(headers.get(_ATTEMPT, 0)),
        key=record.key,
        value=record.value,
    )
