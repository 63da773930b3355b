"""Rival: aiokafka on uvloop by hand, in batches of 1024, with create_batch(); at least once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.bench.peers.job import COMMIT_SECONDS, AsyncScorer, Job
from tests.bench.workloads import BATCH

Rows = list[tuple[bytes | None, bytes]]


async def run(job: Job) -> None:
    consumer = AIOKafkaConsumer(
        job.source,
        bootstrap_servers=job.kafka,
        group_id=job.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    out = AIOKafkaProducer(
        bootstrap_servers=job.kafka, enable_idempotence=True, max_batch_size=1 << 20
    )
    async with consumer, out:
        await _loop(job, consumer, out)


async def _loop(job: Job, consumer: AIOKafkaConsumer, out: AIOKafkaProducer) -> None:
    score = AsyncScorer(job)
    sent: list[Any] = []
    committed = time.monotonic()
    while True:
        fetched = await consumer.getmany(timeout_ms=50, max_records=BATCH)
        for tp, records in fetched.items():
            outputs = await score(
                [record.value for record in records],
                [f"{tp.partition}-{record.offset}" for record in records],
            )
            keys = [record.key for record in records]
            predictions, scored = zip(*outputs, strict=True)
            for topic, values in ((job.predictions, predictions), (job.scored, scored)):
                rows: Rows = list(zip(keys, values, strict=True))
                sent += await _send(out, topic, tp.partition, rows)
        if sent and time.monotonic() - committed > COMMIT_SECONDS:
            await asyncio.gather(*sent)
            await consumer.commit()
            sent, committed = [], time.monotonic()


async def _send(out: AIOKafkaProducer, topic: str, partition: int, rows: Rows) -> list[Any]:
    """Acknowledgements to come, of rows in as few batches as hold them."""
    sent, batch = [], out.create_batch()
    for key, value in rows:
        if batch.append(key=key, value=value, timestamp=None) is None:
            sent.append(await out.send_batch(batch, topic, partition=partition))
            batch = out.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    sent.append(await out.send_batch(batch, topic, partition=partition))
    return sent


if __name__ == "__main__":
    uvloop.run(run(Job.from_arguments(__doc__)))
