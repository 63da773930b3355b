"""A worker's topics while it works: which were deleted, and which are not the same any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from streams.errors import TopicRecreated
from streams.kafka.topic_ids import topic_ids
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

Ask = Callable[[Sequence[str]], Awaitable[dict[str, str] | None]]
"""The ids of those topics that exist; None where nobody can be asked yet."""


class TopicWatch:
    """What became of topics since `start`. Where the brokers know no ids, nothing is seen."""

    def __init__(
        self, settings: Settings, pipeline: Pipeline, read: Sequence[str], written: Sequence[str]
    ) -> None:
        """`read` are topics whose offsets the worker's state stands for, `written` others."""
        self._settings = settings
        self._pipeline = pipeline
        self._read = read
        self._written = written
        self._ids: dict[str, str] = {}
        self._gone = set[str]()

    async def start(self) -> None:
        """Take the topics as they are for the right ones. Raises `Unavailable`."""
        self._ids = await topic_ids(self._settings, (*self._read, *self._written))

    def id_of(self, topic: str) -> str:
        """A topic's id; empty where the brokers have none."""
        return self._ids.get(topic, "")

    async def look(self, ask: Ask) -> None:
        """Say what was deleted, and make anew what is written to: it is missed by who writes.

        Raises:
            TopicRecreated: what is read is another topic now.
            Unavailable: no broker answers.
        """
        now = await ask(list(self._ids))
        if now is None:
            return
        for topic in self._ids.keys() - now.keys() - self._gone:
            if topic in self._read:
                log.error("a topic was deleted, nothing is read from it any more", topic=topic)
            else:
                log.error("a topic was deleted, making it anew without what was in it", topic=topic)
        self._gone = self._ids.keys() - now.keys()
        for topic in self._read:
            if now.get(topic, self.id_of(topic)) != self.id_of(topic):
                raise TopicRecreated(topic)
        if self._gone.intersection(self._written):
            await ensure_topics(self._settings, self._pipeline)
