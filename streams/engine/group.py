"""The worker as a member of its consumer group: what is committed, and whether it still belongs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata

from streams.ports.batches import TopicPartition


class GroupMember:
    """Asks the group's coordinator through the consumer's own connection.

    It is not a Faust class, so that type checkers know its methods. `client` returns aiokafka's
    consumer; None before it has started.
    """

    def __init__(self, client: Callable[[], AIOKafkaConsumer | None]) -> None:
        self._client = client

    async def committed(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int | None]:
        """The group's committed offsets; None where nothing is committed. It need not own them.

        Raises:
            KafkaError: the group's coordinator does not answer.
        """
        asked = [aiokafka.TopicPartition(*tp) for tp in partitions]
        found = await self._started._coordinator.fetch_committed_offsets(asked)
        return {tp: found[tp].offset if tp in found else None for tp in partitions}

    async def counted_in(self, generation: int) -> bool:
        """Whether the group still counts this worker in; else aiokafka has begun to join again.

        Raises:
            KafkaError: the group's coordinator does not answer.
        """
        coordinator = self._started._coordinator
        alive = await coordinator._do_heartbeat()
        if coordinator.generation == generation and not alive:
            raise KafkaConnectionError("no heartbeat")
        return bool(coordinator.generation == generation)

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit next offsets. Raises `KafkaError`: stock Faust answers False or crashes."""
        offsets = {
            aiokafka.TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in positions.items()
        }
        await self._started.commit(offsets)

    def partitions(self, topic: str) -> set[TopicPartition]:
        """All of a topic, owned or not, as far as the client knows."""
        numbers = self._started.partitions_for_topic(topic) or ()
        return {TopicPartition(topic, number) for number in numbers}

    def lag(self) -> dict[TopicPartition, int]:
        """Records between the position and the log's end, by assigned partition."""
        consumer, found = self._client(), dict[TopicPartition, int]()
        if consumer is None:
            return found
        for tp in consumer.assignment():
            end, state = consumer.last_stable_offset(tp), consumer._subscription.subscription
            position = state.assignment.state_value(tp) if state and state.assignment else None
            if end is not None and position is not None and position.has_valid_position:
                found[TopicPartition(*tp)] = max(0, end - position.position)
        return found

    @property
    def _started(self) -> AIOKafkaConsumer:
        consumer = self._client()
        assert consumer is not None, "the consumer has not started"
        return consumer
