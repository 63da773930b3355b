"""Pipelined Redis commands at the speed of hiredis: pack all, send all, read all.

redis-py's own pipelines, which use hiredis too, spend four times as much CPU around it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import hiredis

from tests.bench.peers.windows import Command

_READ = 1 << 20


class RedisPipeline:
    """A connection to the server of a `redis://host:port` URL."""

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self._socket = socket.create_connection((at.hostname, at.port or 6379))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def __call__(self, commands: Iterable[Command]) -> list[Any]:
        """A reply for each command, in one round trip.

        Raises:
            ConnectionError: the server has closed the connection.
            hiredis.HiredisError: it refused a command.
        """
        packed = [hiredis.pack_command(command) for command in commands]
        self._socket.sendall(b"".join(packed))
        replies: list[Any] = []
        while len(replies) < len(packed):
            _take(self._reader, self._socket.recv(_READ), replies)
        return replies


class AsyncRedisPipeline:
    """The same for an event loop."""

    def __init__(self, url: str) -> None:
        self._at = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._reader = hiredis.Reader()

    async def __call__(self, commands: Iterable[Command]) -> list[Any]:
        """A reply for each command, in one round trip; raises as `RedisPipeline` does."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                self._at.hostname, self._at.port or 6379, limit=_READ
            )
        reading, writing = self._streams
        packed = [hiredis.pack_command(command) for command in commands]
        writing.write(b"".join(packed))
        replies: list[Any] = []
        while len(replies) < len(packed):
            _take(self._reader, await reading.read(_READ), replies)
        return replies


def _take(reader: hiredis.Reader, data: bytes, replies: list[Any]) -> None:
    """Add the replies that have become complete."""
    if not data:
        raise ConnectionError("Redis has closed the connection")
    reader.feed(data)
    while (reply := reader.gets()) is not False:
        if isinstance(reply, hiredis.HiredisError):
            raise reply
        replies.append(reply)
