"""The worker as a member of its consumer group: what is committed, and whether it still belongs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndMetadata

from streams.kafka import topic_ids
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
        """Records between the position and the log's end, by assigned partition.

        Those are left out of which the client does not know it yet.
        """
        consumer = self._client()
        found = {tp: self._behind(tp) for tp in consumer.assignment()} if consumer else {}
        return {TopicPartition(*tp): lag for tp, lag in found.items() if lag is not None}

    def at_end(self, tp: TopicPartition) -> bool:
        """Whether the client has handed over all that an assigned partition holds."""
        return self._behind(aiokafka.TopicPartition(*tp)) == 0

    async def log_start(self, tp: TopicPartition) -> int:
        """The first offset that a partition still holds.

        Raises:
            KafkaError: the broker does not answer.
        """
        asked = aiokafka.TopicPartition(*tp)
        return int((await self._started.beginning_offsets([asked]))[asked])

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str] | None:
        """The ids of those topics that exist, by name; None before it has started.

        Raises:
            KafkaError: no broker answers.
        """
        consumer = self._client()
        return None if consumer is None else await topic_ids.ask(consumer._client, topics)

    def _behind(self, tp: aiokafka.TopicPartition) -> int | None:
        consumer = self._started
        end, state = consumer.last_stable_offset(tp), consumer._subscription.subscription
        position = state.assignment.state_value(tp) if state and state.assignment else None
        if end is None or position is None or not position.has_valid_position:
            return None
        return max(0, int(end) - int(position.position))

    @property
    def _started(self) -> AIOKafkaConsumer:
        consumer = self._client()
        assert consumer is not None, "the consumer has not started"
        return consumer
