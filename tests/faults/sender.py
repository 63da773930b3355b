"""Sends generated events, and their labels, whatever the system under test does."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer

from streams.spec import Pipeline
from tests.faults.truth import CAUSE, LABELLED, SPEED, START, Generator, Sent, label_of

HISTORY_EVENTS = 16_000
_HISTORY_RATE = 4000
_TICK = 0.02
_LABEL_AFTER = 5.0
"""Seconds from an event to its label; and some come twice."""


class Sender:
    """Sends the generated events, and their labels a little later, at a rate of its own."""

    def __init__(
        self, out: AIOKafkaProducer, pipeline: Pipeline, generator: Generator, rate: float
    ) -> None:
        self._out = out
        self._topics = pipeline.topics
        self._generator = generator
        self._rate = rate
        self._labels: deque[tuple[float, Sent]] = deque()
        self._labelled = -1
        self.sent = 0
        self.unacknowledged = 0
        self.began = 0.0
        """When the live stream began, seconds since 1970."""

    async def history(self) -> None:
        """Forty days, in seconds."""
        for i, sent in enumerate(self._generator.history(HISTORY_EVENTS)):
            await self._event(sent, 0.0)
            if i % 100 == 0:
                await self._send_labels(time.time())
                await asyncio.sleep(100 / _HISTORY_RATE)
        await self._out.flush()

    async def live(self, stopping: asyncio.Event) -> None:
        """Events and labels until told to stop, whatever the system does."""
        self.began, made = time.time(), 0
        while not stopping.is_set():
            elapsed = time.time() - self.began
            due = int(elapsed * self._rate)
            for _ in range(made, due):
                sent = self._generator.live(int(START + elapsed * SPEED))
                await self._event(sent, time.time() + _LABEL_AFTER)
            made = due
            await self._send_labels(time.time())
            await asyncio.sleep(_TICK)
        await self._send_labels(float("inf"))
        await self._out.flush()

    async def _event(self, sent: Sent, label_at: float) -> None:
        headers = [(CAUSE, sent.cause.encode())] if sent.cause else []
        await self._send(self._topics.events, sent, headers)
        self.sent += 1
        if not sent.cause:
            self._labels.append((label_at, sent))

    async def _send_labels(self, until: float) -> None:
        while self._labels and self._labels[0][0] <= until:
            _, sent = self._labels.popleft()
            event = orjson.loads(sent.value)
            number = int(event["transaction_id"][1:])
            at = np.datetime64(event["tx_time"][:19], "s").astype(int).item()
            label = label_of(number)
            if at < LABELLED or label is None:
                continue
            told = {"event_id": event["transaction_id"], "label": label, "labelled_at": at + 3600}
            await self._send(
                self._topics.feedback, Sent(sent.partition, sent.key, orjson.dumps(told)), []
            )

    async def _send(self, topic: str, sent: Sent, headers: list[tuple[str, bytes]]) -> None:
        future = await self._out.send(
            topic, key=sent.key, value=sent.value, partition=sent.partition, headers=headers
        )
        future.add_done_callback(self._acknowledged)

    def _acknowledged(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            self.unacknowledged += 1
