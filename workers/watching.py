"""Live rates of a pipeline's topics, for `driftloop tail MODULE metrics`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.live import Live
from rich.table import Table

from streams.settings import Settings
from streams.spec import Pipeline
from streams.transport.clients import admin_client, group_id, partitions_of, reader

INTERVAL = 1.0


@dataclass(frozen=True)
class Watch:
    """What to watch, and where."""

    settings: Settings
    pipeline: Pipeline

    @property
    def groups(self) -> dict[str, str]:
        """Consumer group by the topic that it reads."""
        name, topics = self.pipeline.name, self.pipeline.topics
        return {
            topics.events: group_id(name, "score"),
            topics.scored: group_id(name, "label"),
            topics.feedback: group_id(name, "label"),
        }


async def watch(what: Watch, limit: int = 0) -> None:
    """Show records, records per second and lag by topic until interrupted, or `limit` times."""
    consumer = reader(what.settings)
    async with admin_client(what.settings) as admin:
        await consumer.start()
        before: dict[str, int] = {}
        at = time.monotonic()
        shown = 0
        try:
            with Live(auto_refresh=False) as live:
                while not limit or shown < limit:
                    ends = await _ends(consumer, what)
                    totals = {topic: sum(found.values()) for topic, found in ends.items()}
                    now = time.monotonic()
                    lags = await _lags(admin, what, ends)
                    live.update(_table(what, totals, before, now - at, lags), refresh=True)
                    before, at, shown = totals, now, shown + 1
                    await asyncio.sleep(INTERVAL)
        finally:
            await consumer.stop()


async def _ends(consumer: AIOKafkaConsumer, what: Watch) -> dict[str, dict[TopicPartition, int]]:
    topics = [*what.pipeline.topics.partitioned, what.pipeline.topics.models]
    ends = {}
    for topic in topics:
        partitions = await partitions_of(consumer, topic)
        ends[topic] = dict(await consumer.end_offsets(partitions)) if partitions else {}
    return ends


async def _lags(
    admin: object, what: Watch, ends: dict[str, dict[TopicPartition, int]]
) -> dict[str, int]:
    lags = {}
    for topic, group in what.groups.items():
        found = await admin.list_consumer_group_offsets(  # type: ignore[attr-defined]
            group, partitions=list(ends[topic])
        )
        lags[topic] = sum(end - max(0, found[tp].offset) for tp, end in ends[topic].items())
    return lags


def _table(what: Watch, totals: dict[str, int], before: dict[str, int], seconds: float,
           lags: dict[str, int]) -> Table:  # fmt: skip
    table = Table("topic", "offsets", "per second", "lag", title=f"Pipeline {what.pipeline.name}")
    for topic, total in totals.items():
        rate = (total - before.get(topic, total)) / max(seconds, 1e-9)
        lag = f"{lags[topic]:,}" if topic in lags else ""
        table.add_row(topic, f"{total:,}", f"{rate:,.0f}", lag)
    return table
