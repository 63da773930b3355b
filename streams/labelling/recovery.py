"""Recovery of one partition's label store and label windows from the topics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import structlog

from streams.labelling.join import Join, LabelChange
from streams.ports.batches import ReadRange
from streams.spec import Pipeline

log = structlog.get_logger(__name__)


class Recovery:
    """Reads again what a store or the windows have missed: a crash, a move, a lost disk."""

    def __init__(
        self, pipeline: Pipeline, partition: int, join: Join, read_range: ReadRange
    ) -> None:
        self._topics = (pipeline.topics.scored, pipeline.topics.feedback)
        self._partition = partition
        self._join = join
        self._read_range = read_range

    async def missed(self, topic: str, end: int) -> AsyncIterator[list[LabelChange]]:
        """Join what the store has not seen of a topic; its outputs were written before."""
        first = self._join.positions.get(topic, 0)
        if first >= end:
            return
        log.info("label store is behind, reading", topic=topic, first=first, end=end)
        async for records in self._read_range(topic, self._partition, first, end):
            yield self._join.replay(topic, records)
        self._join.positions[topic] = end

    async def lost(self, folded: Mapping[str, int]) -> list[LabelChange]:
        """Label changes that the store has and the windows lack: Redis lost its last second.

        `folded` is the next offset by topic up to which the windows reach.
        """
        feedback = self._topics[1]
        stored, changes = self._join.stored_positions, list[LabelChange]()
        for topic in self._topics:
            first, end = folded[topic], stored.get(topic, 0)
            if first >= end:
                continue
            async for records in self._read_range(topic, self._partition, first, end):
                if topic == feedback:  # each label is one of these records
                    changes += self._join.label_changes(
                        records, lambda record, label: label.offset == record.offset
                    )
                else:  # labels that had come before their event: those after it are found above
                    changes += self._join.label_changes(
                        records, lambda _, label: label.offset < folded[feedback]
                    )
        return changes
