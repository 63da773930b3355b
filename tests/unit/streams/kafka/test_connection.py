"""A producer that is given up is gone, whatever it was doing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.kafka.connection import Producer, stop


class Client:
    """A client whose requests hang until it is closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def close(self) -> None:
        self.closed.set()


class Sender:
    """Sends one batch after another, and as stock does, waits for its requests when cancelled."""

    def __init__(self, client: Client) -> None:
        self.delivered: list[str] = []
        self._client = client
        self.sender_task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        request = asyncio.create_task(self._client.closed.wait())
        try:
            await asyncio.shield(request)
            self.delivered.append("an old batch")
        except asyncio.CancelledError:
            await request


async def test_a_producer_that_is_given_up_delivers_nothing_and_leaves_no_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(self: Any) -> None:
        self._closed = False

    monkeypatch.setattr(Producer, "__init__", init)
    monkeypatch.setattr(Producer, "__del__", lambda self: None)
    failed = Producer()
    failed.client = Client()
    failed._sender = sender = Sender(failed.client)
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await stop(failed)
    assert failed.client.closed.is_set()
    assert sender.sender_task.done()
    assert sender.delivered == []
