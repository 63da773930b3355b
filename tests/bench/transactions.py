"""What a Kafka transaction costs: where its time goes, and one producer against many.

    python -m tests.bench.transactions

First the phases of back-to-back transactions of one producer, with aiokafka's own wait for the
markers of the last one (20 ms) and with ours. Then 64 partitions, each with a commit every 100 ms,
through 64, 16 and 1 producers.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import numpy as np
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer import sender
from rich.console import Console
from rich.table import Table

from streams.kafka import workarounds
from streams.kafka.connection import producer
from streams.settings import Settings
from tests.bench.loading import create_topics
from tests.bench.measuring import cpu_seconds
from tests.bench.servers import servers

TOPICS = ("first", "second")
PARTITIONS = 64
RECORDS, SPAN = 20, 0.1
Phases = tuple[float, float, float]


async def transaction(out: AIOKafkaProducer, partitions: Sequence[int], number: int) -> Phases:
    """One transaction over these partitions of both topics; seconds of each phase."""
    begun = time.perf_counter()
    await out.begin_transaction()
    sent = []
    for partition in partitions:
        for topic in TOPICS:
            batch = out.create_batch()
            for _ in range(RECORDS):
                batch.append(timestamp=None, key=b"key", value=bytes(100))
            sent.append(await out.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)
    written = time.perf_counter()
    offsets = {TopicPartition(TOPICS[0], partition): number for partition in partitions}
    await out.send_offsets_to_transaction(offsets, "bench")
    added = time.perf_counter()
    await out.commit_transaction()
    return written - begun, added - written, time.perf_counter() - added


async def phases(settings: Settings, wait: float, count: int) -> Phases:
    """Median seconds to write, to add offsets, to commit."""
    sender.BACKOFF_OVERRIDE = wait
    async with producer(settings, transactional_id="phases") as out:
        found = [await transaction(out, [0], number) for number in range(count)]
    write, add, commit = np.median(np.array(found), axis=0).tolist()
    return write, add, commit


async def shared(
    settings: Settings, kafka: int, producers: int, seconds: float
) -> tuple[float, float, float]:
    """Commits of a partition a second; cores that the client and the broker used."""
    size = PARTITIONS // producers

    async def work(out: AIOKafkaProducer, first: int) -> int:
        number, ending = 0, time.perf_counter() + seconds
        while (begun := time.perf_counter()) < ending:
            await transaction(out, range(first, first + size), number)
            number += 1
            await asyncio.sleep(max(0.0, begun + SPAN - time.perf_counter()))
        return number

    async with AsyncExitStack() as ending:
        outs = [
            await ending.enter_async_context(
                producer(settings, transactional_id=f"shared-{producers}-{number}")
            )
            for number in range(producers)
        ]
        begun, client, broker = time.perf_counter(), time.process_time(), cpu_seconds(kafka)
        done = await asyncio.gather(*(work(out, k * size) for k, out in enumerate(outs)))
        took = time.perf_counter() - begun
        return (
            sum(done) * size / took,
            (time.process_time() - client) / took,
            (cpu_seconds(kafka) - broker) / took,
        )


async def measure(options: argparse.Namespace, settings: Settings, kafka: int) -> None:
    """Both tables."""
    await create_topics(settings, TOPICS)
    ours, theirs = sender.BACKOFF_OVERRIDE, 0.02
    await phases(settings, ours, options.count)  # the broker's code is compiled while it runs
    table = Table("wait for markers", "write", "add offsets", "commit", title="milliseconds")
    for wait in (theirs, ours):
        found = await phases(settings, wait, options.count)
        table.add_row(f"{wait * 1000:g} ms", *(f"{1000 * part:.1f}" for part in found))
    Console().print(table)
    table = Table("producers", "commits/s", "client", "broker", title=f"{PARTITIONS} partitions")
    for producers in (64, 16, 1):
        rate, client, broker = await shared(settings, kafka, producers, options.seconds)
        table.add_row(str(producers), f"{rate:.0f}", f"{client:.0%}", f"{broker:.0%}")
    Console().print(table)


def main() -> None:
    """Measure and print; see the module."""
    workarounds.apply()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200, help="transactions for the phases")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each number of producers")
    options = parser.parse_args()
    with servers(PARTITIONS) as (stack, settings):
        asyncio.run(measure(options, settings, stack.pids()["kafka"]))


if __name__ == "__main__":
    main()
