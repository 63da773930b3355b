"""What the contenders find: events in a topic, a model in Triton, and empty output topics."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson
import torch
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import OffsetAndMetadata

from streams.kafka.connection import admin_client, client_options, producer
from streams.kafka.topics import ensure_topics, group_id
from streams.settings import Settings
from streams.spec import Pipeline
from tests.bench.workloads import SIDE, TOKENS, Workload
from tests.models import promote_first
from workers.training.export import ExportedModel, build, export
from workers.training.preparing import Normalise, preparing
from workers.worlds.card_fraud import World, event_records, load

Record = tuple[bytes, bytes]

SENSORS = 10_000
DAILY_PAYMENTS = 9_000
"""A little less than the simulated world's customers make."""


def records(workload: Workload, count: int, cache: Path) -> Iterator[Record]:
    """Key and value of `count` events, in order of time; a simulated world is kept in `cache`."""
    if workload.windows:
        world = World(days=count // DAILY_PAYMENTS + 2)
        yield from event_records(load(world, cache / "worlds").head(count))
    else:
        yield from {"stateless": readings, "pictures": pictures, "messages": messages}[
            workload.declared
        ](count)


def readings(count: int) -> Iterator[Record]:
    """Readings of sensors, 111 bytes each, ten in a second."""
    drawn = random.Random(1)
    start = np.datetime64("2024-05-01T00:00:00.000")
    for number in range(count):
        sensor = f"sensor-{drawn.randrange(SENSORS):04d}"
        yield (
            sensor.encode(),
            (
                f'{{"reading_id":"reading-{number:08d}","sensor_id":"{sensor}",'
                f'"value":{drawn.uniform(10, 100):.6f},'
                f'"read_at":"{start + np.timedelta64(number * 100, "ms")}Z"}}'
            ).encode(),
        )


def pictures(count: int) -> Iterator[Record]:
    """Pictures of noise, some 1,160 bytes each."""
    noise = np.random.default_rng(1).integers(0, 256, (1000, SIDE * SIDE), np.uint8)
    coded = [base64.b64encode(one.tobytes()).decode() for one in noise]
    for number in range(count):
        camera = f"camera-{number % SENSORS:04d}"
        event = {"picture_id": f"picture-{number:08d}", "camera": camera}
        event |= {"pixels": coded[number % 1000], "taken_at": _at(number)}
        yield camera.encode(), orjson.dumps(event)


def messages(count: int) -> Iterator[Record]:
    """Messages of 64 words out of 10,000, some 470 bytes each."""
    drawn = random.Random(1)
    words = ["".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(10_000)]
    for number in range(count):
        sender = f"sender-{number % SENSORS:04d}"
        event = {"message_id": f"message-{number:08d}", "sender": sender}
        event |= {"text": " ".join(drawn.choices(words, k=TOKENS)), "sent_at": _at(number)}
        yield sender.encode(), orjson.dumps(event)


def _at(number: int) -> str:
    """Ten in a second."""
    return f"{np.datetime64('2024-05-01T00:00:00.000') + np.timedelta64(number * 100, 'ms')}Z"


async def write_events(settings: Settings, pipeline: Pipeline, events: Iterable[Record]) -> int:
    """Write events to the pipeline's topic, once, by key; returns how many."""
    topic, count = pipeline.topics.events, 0
    numbers, place = list(range(settings.partitions)), DefaultPartitioner()
    async with producer(settings) as out:
        batches = {number: out.create_batch() for number in numbers}

        async def send(number: int) -> None:
            await out.send_batch(batches[number], topic, partition=number)
            batches[number] = out.create_batch()

        for key, value in events:
            number = place(key, numbers, numbers)
            if batches[number].append(timestamp=None, key=key, value=value) is None:
                await send(number)
                batches[number].append(timestamp=None, key=key, value=value)
            count += 1
        for number in numbers:
            await send(number)
        await out.flush()
    return count


async def publish_network(settings: Settings, pipeline: Pipeline) -> None:
    """Publish the pipeline's network, untrained, as the version that serves."""
    await promote_first(settings, pipeline, untrained(pipeline, 1))


def untrained(pipeline: Pipeline, seed: int) -> bytes:
    """The ONNX file of the pipeline's network before training."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    features = len(pipeline.feature_names)
    plain = Normalise(np.zeros(features), np.ones(features))
    prepare = preparing(pipeline.layout, plain)
    return export(ExportedModel(prepare, build(pipeline), np.zeros(1)), pipeline.layout)


async def prepare(settings: Settings, workload: Workload, count: int) -> None:
    """Topics, model and events of a workload."""
    await ensure_topics(settings, workload.pipeline)
    await publish_network(settings, workload.pipeline)
    found = records(workload, count, settings.cache_dir)
    written = await write_events(settings, workload.pipeline, found)
    assert written == count, f"the simulated world has only {written} events"


async def drop_topics(settings: Settings, topics: Sequence[str]) -> None:
    """Delete topics, where they are there, and wait until they are gone."""
    async with admin_client(settings) as admin:
        await admin.delete_topics(list(topics))
        while any(not t["error_code"] for t in await admin.describe_topics(list(topics))):
            await asyncio.sleep(0.05)


async def create_topics(settings: Settings, topics: Sequence[str]) -> None:
    """Create empty topics, and wait until they can be written."""
    async with admin_client(settings) as admin:
        new = [NewTopic(name, settings.partitions, settings.replication) for name in topics]
        await admin.create_topics(new)
        while any(
            t["error_code"] or len(t["partitions"]) < settings.partitions
            for t in await admin.describe_topics(list(topics))
        ):
            await asyncio.sleep(0.05)


async def rewind(settings: Settings, pipeline: Pipeline, timeout: float = 30.0) -> None:
    """Let our scoring workers, which have ended, begin with the first event again."""
    topic = pipeline.topics.events
    start = {
        TopicPartition(topic, number): OffsetAndMetadata(0, "")
        for number in range(settings.partitions)
    }
    async with asyncio.timeout(timeout):
        while True:
            consumer = AIOKafkaConsumer(
                **client_options(settings),
                group_id=group_id(pipeline.name, "score"),
                enable_auto_commit=False,
            )
            await consumer.start()
            try:
                consumer.assign(list(start))
                await consumer.commit(start)
                return
            except KafkaError:  # the group still waits for a worker that was killed
                await asyncio.sleep(0.5)
            finally:
                await consumer.stop()
