"""An open-loop load and its observer, each a process of its own.

    python -m tests.bench.open_loop produce --kafka HOST:PORT --topic T --rate 1000 --seconds 20
    python -m tests.bench.open_loop observe --kafka HOST:PORT --topic T --events N --out FILE

The producer writes on a schedule, whatever has become of the events before, and puts an event's
number into its id; the observer notes when it could read the number again. An event's latency is
counted from the time at which it was *due*, so that a stall costs every event that it delays.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

TICK = 0.002
"""Seconds between two writes of the producer."""
SAMPLE = 8
"""The observer decodes one event in so many: it must not take the machine from what it watches."""
START = 1_600_000_000
DAY = 86_400
PER_CUSTOMER = 57 / 30
"""Transactions of a customer in a day: as many as the handbook's simulator makes."""


class _Named(msgspec.Struct):
    event_id: str = ""
    transaction_id: str = ""


def events(first: int, count: int, entities: int = 10_000) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of card-fraud transactions with these numbers, evenly over event time."""
    rng = np.random.default_rng(first)
    step = DAY / (entities // 3 * PER_CUSTOMER)
    for start in range(first, first + count, 4096):
        n = min(4096, first + count - start)
        customers, terminals = rng.integers(0, entities // 3, n), rng.integers(0, entities, n)
        amounts = np.round(rng.gamma(2.0, 27.0, n), 2)
        for i in range(n):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START + (start + i) * step))
            event = (
                f'{{"transaction_id":"{start + i}","customer_id":"{customers[i]}",'
                f'"terminal_id":"{terminals[i]}","amount":{amounts[i]:.2f},"tx_time":"{stamp}"}}'
            )
            yield b"%d" % customers[i], event.encode()


async def produce(kafka: str, topic: str, first: int, rate: float, seconds: float) -> None:
    """Write events on schedule; prints the monotonic time at which the first one was due."""
    count = int(rate * seconds)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_batch_size=1 << 20, acks=1)
    await producer.start()
    partitions = sorted(await producer.partitions_for(topic))
    keyed, place = list(events(first, count)), DefaultPartitioner()
    placed = [place(key, partitions, partitions) for key, _ in keyed]
    gc.freeze()
    start = time.monotonic() + 0.5
    print(start, flush=True)
    written = 0
    while written < count:
        due = min(count, int((time.monotonic() - start) * rate) + 1)
        if due > written:
            batches = [producer.create_batch() for _ in partitions]
            for i in range(written, due):
                batches[placed[i]].append(timestamp=None, key=keyed[i][0], value=keyed[i][1])
            for partition, batch in zip(partitions, batches, strict=True):
                if batch.record_count():
                    await producer.send_batch(batch, topic, partition=partition)
            written = due
        await asyncio.sleep(TICK)
    await producer.stop()


async def observe(kafka: str, topic: str, first: int, count: int, out: Path) -> None:
    """Note when each event's number could be read; ends with the last event, or 10 s of silence."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka,
        isolation_level="read_committed",
        auto_offset_reset="latest",
        fetch_max_wait_ms=500,
    )
    await consumer.start()
    for partition in consumer.assignment():
        await consumer.position(partition)
    print("ready", flush=True)
    read = msgspec.json.Decoder(_Named).decode
    arrived = np.full(count, np.nan)
    seen, last = 0, time.monotonic()
    while seen < count and time.monotonic() < last + 10:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            last = time.monotonic()
            seen += len(records)
            for record in records:
                if record.offset % SAMPLE == 0:
                    named = read(record.value)
                    arrived[int(named.event_id or named.transaction_id) - first] = last
    np.save(out, arrived)
    print(seen, flush=True)
    await consumer.stop()


def main() -> None:
    """Run one side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("side", choices=["produce", "observe"])
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first event")
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--events", type=int, default=0, help="events to wait for")
    parser.add_argument("--out", type=Path, default=Path("arrived.npy"))
    options = parser.parse_args()
    if options.side == "produce":
        work = produce(options.kafka, options.topic, options.first, options.rate, options.seconds)
    else:
        work = observe(options.kafka, options.topic, options.first, options.events, options.out)
    asyncio.run(work)


if __name__ == "__main__":
    main()
