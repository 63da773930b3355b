"""Rival: a stock Faust agent on uvloop that takes 1024 events and sends each; at least once."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
import uvloop

from tests.bench.peers.job import AsyncScorer, Job
from tests.bench.workloads import BATCH


def build(job: Job) -> faust.App:
    app = faust.App(
        job.group,
        broker=f"kafka://{job.kafka}",
        broker_max_poll_records=4 * BATCH,
        stream_buffer_maxsize=4 * BATCH,
        producer_linger=0.005,
        producer_max_batch_size=1 << 20,
        topic_disable_leader=True,
        web_enabled=False,
    )
    raw: dict[str, Any] = {"key_serializer": "raw", "value_serializer": "raw"}
    source = app.topic(job.source, key_type=bytes, value_type=bytes, **raw)
    predictions = app.topic(job.predictions, **raw)
    scored = app.topic(job.scored, **raw)

    async def score_events(stream: Any) -> None:
        score = AsyncScorer(job)
        async for events in stream.take_events(BATCH, within=0.05):
            messages = [event.message for event in events]
            outputs = await score(
                [event.value for event in events],
                [f"{message.partition}-{message.offset}" for message in messages],
            )
            for message, (prediction, saw) in zip(messages, outputs, strict=True):
                key, partition = message.key, message.partition
                await predictions.send(key=key, value=prediction, partition=partition)
                await scored.send(key=key, value=saw, partition=partition)

    app.agent(source, name="score")(score_events)
    return app


def main() -> None:
    job = Job.from_arguments(__doc__)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    faust.Worker(build(job), loop=loop, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main()
