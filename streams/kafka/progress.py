"""How far a pipeline's workers have come, as their groups have committed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.kafka.offsets import offsets_client
from streams.kafka.topic_ids import together, topic_ids
from streams.kafka.topics import group_id
from streams.ports.features import label_stream
from streams.settings import Settings
from streams.spec import Pipeline


class GroupProgress:
    """`Progress` of the scoring and labelling groups."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._name = pipeline.name
        self._topics = pipeline.topics

    async def scored(self) -> Mapping[int, int]:
        """Up to which offset the events are scored, by partition. Raises `Unavailable`."""
        return await self._committed("score", self._topics.events)

    async def labelled(self) -> tuple[str, Sequence[int]]:
        """The stream of labels, and the partitions that have any. Raises `Unavailable`."""
        joined = (self._topics.scored, self._topics.feedback)
        ids = await topic_ids(self._settings, joined)
        stream = label_stream(together([ids.get(topic, "") for topic in joined]))
        return stream, list(await self._committed("label", self._topics.scored))

    async def _committed(self, role: str, topic: str) -> dict[int, int]:
        async with offsets_client(self._settings) as asked:
            ends = await asked.ends(topic)
            found = await asked.committed(group_id(self._name, role), topic, ends)
        return {number: at for number, at in found.items() if at is not None}
