"""Record batches that are small as they are sent and huge once they are decompressed.

A batch of a megabyte may hold gigabytes. One that grows beyond some multiple of its size is read as
a stream, and the records in it that are too large keep only their beginning, with their size and
digest as headers: so much memory is needed, and no more.
"""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import IO, Any, Protocol

import cramjam
from aiokafka.record.util import decode_varint, encode_varint

from streams.dead_letters import BEGINNING, SHRUNK_DIGEST, SHRUNK_SIZE

_RATIO, _LEAST = 16, 4 << 20
"""A batch is decompressed as a whole up to so many times its size, or so many bytes."""
_LARGE = 1 << 20
"""A record of more bytes keeps only its beginning, in a batch that is read as a stream."""
_CHUNK = 1 << 16
_GZIP = 31
"""Of zlib: a gzip header is expected."""


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def gunzip(data: Any) -> bytes:
    """The records of a gzip batch."""
    data = bytes(data)
    reader = zlib.decompressobj(_GZIP)
    found = reader.decompress(data, _budget(data))
    if reader.eof:
        return found
    return _shrunk(_Gzip(found, reader))


def bounded(decompress_into: Callable[[Any, Any], int]) -> Callable[[Any], bytes]:
    """A function that gives the records of a batch of another codec of cramjam's."""

    def decompress(data: Any) -> bytes:
        data = bytes(data)
        whole = bytearray(_budget(data))
        try:
            size = decompress_into(data, whole)
        except cramjam.DecompressionError:
            pass  # it does not fit, or is broken: then the next raises
        else:
            return bytes(memoryview(whole)[:size])
        with tempfile.NamedTemporaryFile(prefix="driftloop-batch-") as file:
            decompress_into(data, cramjam.File(file.name, write=True, truncate=True))
            file.seek(0)
            return _shrunk(file)

    return decompress


DECODERS: dict[str, Callable[[Any], bytes]] = {
    "gzip_decode": gunzip,
    "zstd_decode": bounded(cramjam.zstd.decompress_into),
    "lz4_decode": bounded(cramjam.lz4.decompress_into),
}
"""By the name of aiokafka's decoder that each replaces. Snappy makes at most 20 times its size."""


def _budget(data: bytes) -> int:
    return max(_LEAST, _RATIO * len(data))


class _Gzip:
    """What is left of a gzip batch, after what was decompressed already."""

    def __init__(self, begun: bytes, reader: Any) -> None:
        self._begun = BytesIO(begun)
        self._reader = reader

    def read(self, size: int, /) -> bytes:
        found = self._begun.read(size)
        while len(found) < size and not self._reader.eof:
            more = self._reader.decompress(self._reader.unconsumed_tail, size - len(found))
            if not more:
                break
            found += more
        return found


def _shrunk(stream: _Stream | IO[bytes]) -> bytes:
    """The records of a stream; large ones with only their beginning."""
    out = bytearray()
    while (length := _varint(stream)) is not None:
        body = _exactly(stream, length) if length <= _LARGE else _large(stream, length)
        encode_varint(len(body), out.append)
        out += body
    return bytes(out)


def _large(stream: _Stream | IO[bytes], length: int) -> bytes:
    """One record's body, whose value (or key) is cut."""
    head = bytearray(_exactly(stream, 1))  # attributes
    left = length - 1
    for _ in range(2):  # differences of timestamp and offset
        number, size = _sized(stream)
        encode_varint(number, head.append)
        left -= size
    key, _, _, size = _field(stream, BEGINNING)
    left -= size
    value, whole, digest, size = _field(stream, BEGINNING)
    left -= size
    for part in (key, value):
        encode_varint(-1 if part is None else len(part), head.append)
        head += part or b""
    _skip(stream, left)  # its own headers: the record will be set aside
    headers = ((SHRUNK_SIZE, b"%d" % whole), (SHRUNK_DIGEST, digest.encode()))
    encode_varint(len(headers), head.append)
    for name, text in headers:
        for part in (name.encode(), text):
            encode_varint(len(part), head.append)
            head += part
    return bytes(head)


def _field(stream: _Stream | IO[bytes], keep: int) -> tuple[bytes | None, int, str, int]:
    """The beginning of a field, its whole size, its SHA-256, and the bytes that were read."""
    length, size = _sized(stream)
    if length < 0:
        return None, 0, "", size
    kept = _exactly(stream, min(length, keep))
    digest, left = hashlib.sha256(kept), length - len(kept)
    while left:
        chunk = _exactly(stream, min(left, _CHUNK))
        digest.update(chunk)
        left -= len(chunk)
    return kept, length, digest.hexdigest(), size + length


def _skip(stream: _Stream | IO[bytes], size: int) -> None:
    while size > 0:
        size -= len(_exactly(stream, min(size, _CHUNK)))


def _exactly(stream: _Stream | IO[bytes], size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise ValueError("the batch ends in the middle of a record")
    return found


def _varint(stream: _Stream | IO[bytes]) -> int | None:
    """The next number; None at the end."""
    first = stream.read(1)
    return _rest(stream, first)[0] if first else None


def _sized(stream: _Stream | IO[bytes]) -> tuple[int, int]:
    """The next number, and of how many bytes it is."""
    return _rest(stream, _exactly(stream, 1))


def _rest(stream: _Stream | IO[bytes], text: bytes) -> tuple[int, int]:
    while text[-1] & 0x80:
        text += _exactly(stream, 1)
    number, _ = decode_varint(bytearray(text), 0)
    return int(number), len(text)
