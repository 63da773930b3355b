"""The format of `P.dead-letters`: bad records as they came, with their cause and origin as headers.

A record that is too large to be kept whole keeps its beginning, its size and its digest; its source
offset says where it lies. A replay is noted in the same topic: a record with the cause `replayed`
that names the dead letter it stands for. So a dead letter is not replayed twice.

The topic is read as what it is, a topic: whatever else is in it is passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from streams.errors import BadRecord
from streams.ports.batches import Headers, OutputRecord, SourceRecord

Rejected = tuple[SourceRecord, BadRecord]
"""A bad record, and what is wrong with it."""

WHOLE = 256 << 10
"""A value of more bytes than this is not kept whole, but its first `BEGINNING` bytes."""
BEGINNING = 16 << 10
_LONGEST_KEY = 4 << 10
_MOST_HEADERS, _MOST_HEADER_BYTES = 32, 8 << 10
"""Of the record's own headers so many are kept, of so many bytes in all."""
SHRUNK_SIZE, SHRUNK_DIGEST = "driftloop.size", "driftloop.sha256"
"""Headers of a record that was too large to be read whole: what its value was."""
_REPLAYED = "replayed"
_ATTEMPT = "attempt"
"""Header of a replayed record: how many times it has been replayed."""
_OF = "replay-of"
_FROM = "replayed-from"
_ORIGINAL = "original."
"""Before the names of the record's own headers."""


@dataclass(frozen=True)
class DeadLetter:
    """A record that could not be processed, and why."""

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
    headers: Headers = field(default_factory=list)
    """The record's own."""
    written_at: float = 0.0
    """When the record was written, seconds since 1970; 0 where that is not known."""
    size: int | None = None
    """Bytes of the record's value, where only its beginning is kept."""
    replayed: bool = field(default=False, compare=False)
    """Whether it has been put back since."""

    @property
    def reference(self) -> str:
        """What names it on the command line."""
        return f"{self.partition}-{self.offset}"

    @property
    def whole(self) -> bool:
        """Whether key and value are as they came."""
        return self.size is None

    def replay_headers(self) -> Headers:
        """Headers of the record that is put back."""
        ours = [(_FROM, self.reference.encode()), (_ATTEMPT, b"%d" % (self.attempts + 1))]
        return [*self.headers, *ours]

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
    key, value = record.key, record.value
    headers = {
        "cause": error.cause,
        "detail": error.detail[:1000],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "timestamp": str(record.timestamp),
    }
    named = dict(record.headers)
    if value is not None and SHRUNK_SIZE in named:
        size, digest = (named.get(name) or b"" for name in (SHRUNK_SIZE, SHRUNK_DIGEST))
        headers |= {"size": size.decode(), "sha256": digest.decode()}
    elif value is not None and len(value) > WHOLE:
        headers |= {"size": str(len(value)), "sha256": hashlib.sha256(value).hexdigest()}
        value = value[:BEGINNING]
    if key is not None and len(key) > _LONGEST_KEY:
        headers.setdefault("size", str(len(record.value or b"")))
        headers["key-size"] = str(len(key))
        key = key[:_LONGEST_KEY]
    own, attempts = _own(record.headers)
    if attempts:
        headers[_ATTEMPT] = str(attempts)
    kept = _bounded(own)
    if len(kept) < len(own):
        headers["headers-dropped"] = str(len(own) - len(kept))
    written = [(name, text.encode(errors="replace")) for name, text in headers.items()]
    return key, value, [*written, *((_ORIGINAL + name, text) for name, text in kept)]


def shrunk(record: SourceRecord) -> bool:
    """Whether the record was too large to be read whole."""
    return any(name == SHRUNK_SIZE for name, _ in record.headers)


def parse(records: Iterable[SourceRecord]) -> tuple[list[DeadLetter], int]:
    """The dead letters in records of the topic, oldest first; and how many records are none."""
    found: dict[str, DeadLetter] = {}
    replayed: set[str] = set()
    others = 0
    for record in sorted(records, key=lambda r: (r.timestamp, r.partition, r.offset)):
        headers = {
            name: text.decode(errors="replace")
            for name, text in reversed(record.headers)
            if isinstance(text, bytes)
        }
        if headers.get("cause") == _REPLAYED and _OF in headers:
            replayed.add(headers[_OF])
        elif (letter := _letter(record, headers)) is not None:
            found[letter.reference] = letter
        else:
            others += 1
    letters = [replace(one, replayed=reference in replayed) for reference, one in found.items()]
    return letters, others


def _letter(record: SourceRecord, headers: dict[str, str]) -> DeadLetter | None:
    """The dead letter in a record; None where it is none."""
    partition, offset = _number(headers.get("partition")), _number(headers.get("offset"))
    if not {"cause", "topic"} <= headers.keys() or partition is None or offset is None:
        return None
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        at=record.timestamp / 1000,
        cause=headers["cause"],
        detail=headers.get("detail", ""),
        source=(headers["topic"], partition, offset),
        attempts=_number(headers.get(_ATTEMPT)) or 0,
        key=record.key,
        value=record.value,
        headers=[
            (name.removeprefix(_ORIGINAL), text)
            for name, text in record.headers
            if name.startswith(_ORIGINAL)
        ],
        written_at=(_number(headers.get("timestamp")) or 0) / 1000,
        size=_number(headers.get("size")),
    )


def _own(headers: Sequence[tuple[str, bytes]]) -> tuple[Headers, int]:
    """A record's headers without those of our replays, and how many times it was replayed."""
    named = dict(headers)
    if _FROM not in named:  # somebody else's `attempt` is none of ours
        return list(headers), 0
    attempts = _number((named.get(_ATTEMPT) or b"").decode(errors="replace")) or 0
    return [header for header in headers if header[0] not in (_FROM, _ATTEMPT)], attempts


def _bounded(headers: Headers) -> Headers:
    """The first of the headers, as many as may be kept."""
    kept: Headers = []
    size = 0
    for name, text in headers[:_MOST_HEADERS]:
        size += len(name) + len(text or b"")
        if size > _MOST_HEADER_BYTES:
            break
        kept.append((name, text))
    return kept


def _number(text: str | None) -> int | None:
    """A number that is not negative; None where the text is none."""
    return int(text) if text and text.isdecimal() and len(text) < 20 else None
