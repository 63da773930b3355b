"""A label store on local disk: RocksDB, one database per partition.

Keys, whose first byte sorts them into ranges; a name is the size of an event's key, its key and id:

- `s` + name: the entry, as MessagePack;
- `d` + event time (big-endian microseconds) + name: entries that have not matured, in order;
- `x` + event time + name: entries that have matured, in the order in which they expire;
- `e` + name and `f` + labelled_at + name: early labels, and the order of their expiry;
- `m`: positions and watermark.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rocksdict import AccessType, Options, Rdict, WriteBatch

from streams.errors import Busy, StoreFailed
from streams.ports.labels import Changes, EventName, Label, ServedEvent

_META = b"m"
_FULL = "No space left"
_pack = msgspec.msgpack.Encoder().encode
_unpack_served = msgspec.msgpack.Decoder(ServedEvent).decode
_unpack_labels = msgspec.msgpack.Decoder(tuple[Label, ...]).decode
_unpack_meta = msgspec.msgpack.Decoder(tuple[dict[str, int], float]).decode


class RocksLabelStore:
    """`LabelStore` in RocksDB.

    Raises:
        Busy: another process holds the directory.
        StoreFailed: the disk is full, or broken.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db: Any = Rdict(str(directory), _options(), access_type=AccessType.read_write())
        except Exception as error:  # rocksdict raises bare Exceptions
            if _FULL in str(error):
                raise self._failed(error) from None
            raise Busy("the label store", directory, error) from None
        found = self._db.get(_META)
        self._positions, self._watermark = _unpack_meta(found) if found else ({}, 0.0)
        # below this no entry is left to mature: scanning from it passes over what was deleted
        self._matured_to = 0.0

    def entries(self, names: Sequence[EventName]) -> list[ServedEvent | None]:
        """The entries of these events."""
        return self._entries(list(map(_packed, names)))

    def _entries(self, names: Sequence[bytes]) -> list[ServedEvent | None]:
        found = self._db.get([b"s" + name for name in names])
        return [None if value is None else _unpack_served(value) for value in found]

    def early(self, names: Sequence[EventName]) -> list[tuple[Label, ...]]:
        """Labels without an event yet."""
        found = self._db.get([b"e" + _packed(name) for name in names])
        return [() if value is None else _unpack_labels(value) for value in found]

    def due(self, before: float) -> list[ServedEvent]:
        """Unmatured entries older than `before`, oldest first."""
        names = [key[9:] for key in self._range(b"d", before, self._matured_to)]
        if not names:
            self._matured_to = max(self._matured_to, before)
        return [served for served in self._entries(names) if served is not None]

    def write(self, changes: Changes) -> None:
        """Apply changes in one write batch.

        It is not synced: the topics are the truth, and a store that is behind catches up on them.
        """
        batch = WriteBatch(raw_mode=True)
        for named, served in changes.entries.items():
            name = _packed(named)
            batch.put(b"s" + name, _pack(served))
            at = _ordered(served.event_time) + name
            if served.matured:
                batch.delete(b"d" + at)
                batch.put(b"x" + at, b"")
            else:
                batch.put(b"d" + at, b"")
                self._matured_to = min(self._matured_to, served.event_time)
        for early, labels in changes.early.items():
            self._write_early(batch, _packed(early), labels)
        self._positions = {**self._positions, **changes.positions}
        self._watermark = changes.watermark
        batch.put(_META, _pack((self._positions, self._watermark)))
        self._apply(batch)

    def expire(self, before: float) -> None:
        """Drop what is older than `before`."""
        batch = WriteBatch(raw_mode=True)
        for index, entry in ((b"x", b"s"), (b"f", b"e")):
            for key in self._range(index, before):
                batch.delete(key)
                batch.delete(entry + key[9:])
        if batch.len():
            self._apply(batch)

    @property
    def positions(self) -> dict[str, int]:
        """Next offset by topic."""
        return dict(self._positions)

    @property
    def watermark(self) -> float:
        """As last written."""
        return float(self._watermark)

    def close(self) -> None:
        """Flush and release the directory."""
        self._db.close()

    def _apply(self, batch: Any) -> None:
        try:
            self._db.write(batch)
        except Exception as error:  # as above
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> StoreFailed:
        reason = str(error).rpartition(": ")[2]  # what comes before names a file in it
        return StoreFailed("the label store", self._directory, reason)

    def _write_early(self, batch: Any, name: bytes, labels: tuple[Label, ...]) -> None:
        if labels:
            batch.put(b"e" + name, _pack(labels))
            batch.put(b"f" + _ordered(labels[-1].known_at) + name, b"")
        else:
            batch.delete(b"e" + name)

    def _range(self, prefix: bytes, before: float, since: float = 0.0) -> Iterator[bytes]:
        end = prefix + _ordered(before)
        for key in self._db.keys(from_key=prefix + _ordered(since)):
            if key >= end:
                return
            yield key


def _packed(name: EventName) -> bytes:
    return struct.pack(">H", len(name.key)) + name.key + name.event_id.encode()


def _ordered(at: float) -> bytes:
    """Eight bytes that sort as the times do; times before 1970 sort as 1970."""
    return struct.pack(">Q", max(0, round(at * 1e6)))


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 << 20)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(2)
    options.set_max_background_jobs(2)
    return options
