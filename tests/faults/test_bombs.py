"""Records and batches that are far too large cost a bounded dead letter each, and little memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.kafka.connection import admin_client, client_options
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from tests.faults.harness import Output, Workers, card_fraud_module
from tests.integration.test_bad_input import T0, event

CODECS = {"gzip": 1, "zstd": 4}
RESIDENT = 400 << 20


def built(codec: int, values: list[bytes]) -> Any:
    """A record batch of any size, as a producer has it in hand."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 40)
    for offset, value in enumerate(values):
        assert builder.append(offset, T0 * 1000 + offset, b"ann", value, [])
    return builder


async def send(settings: Settings, topic: str, codec: int, values: list[bytes]) -> None:
    """As one batch, however large it is once decompressed."""
    async with AIOKafkaProducer(
        **client_options(settings), max_request_size=4 << 20, max_batch_size=4 << 20
    ) as out:
        batch = out.create_batch()
        batch._builder, batch._relative_offset = built(codec, values), len(values)
        batch.close()
        await (await out.send_batch(batch, topic, partition=0))


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    [line] = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line
    ]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_bombs(settings: Settings, tmp_path: Path, delivery: str) -> None:
    settings = settings.model_copy(update={"delivery": delivery})
    pipeline = card_fraud_module(tmp_path, f"bombs-{delivery.replace('_', '-')}")
    topics = pipeline.topics
    await ensure_topics(settings, pipeline)
    larger = {"max.message.bytes": str(4 << 20)}
    async with admin_client(settings) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.events, larger)])
    with Workers(settings, pipeline, tmp_path) as workers:
        worker = workers.start("score")
        async with (
            Output(settings, topics.predictions) as predictions,
            Output(settings, topics.dead_letters) as letters,
        ):
            good, wanted = 0, 0

            async def explode(codec: int, values: list[bytes]) -> None:
                nonlocal good, wanted
                before = [event(f"good{good}", tx_time=T0 + good)]
                after = [event(f"good{good + 1}", tx_time=T0 + good + 1)]
                await send(settings, topics.events, 0, before)
                await send(settings, topics.events, codec, values)
                await send(settings, topics.events, 0, after)
                good, wanted = good + 2, wanted + len(values)
                await predictions.wait(good, timeout=120)
                await letters.wait(wanted, timeout=120)

            await explode(0, [b"{" + bytes(2_150_000)])
            for codec in CODECS.values():
                await explode(codec, [b"{" + bytes(40 << 20)])
                await explode(codec, [b"{" + bytes(1_900_000)] * 400)
            await letters.settle()
            assert worker.alive, worker.said()
            assert peak(worker.pid) < RESIDENT
        assert (len(predictions.records), len(letters.records)) == (good, wanted)
        assert max(len(letter.value) for letter in letters.records) <= 16 << 10
        assert all(dict(letter.headers)["size"] for letter in letters.records)
