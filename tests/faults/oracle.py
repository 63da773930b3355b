"""The oracle, a process outside the system: it sends events and labels, reads all that comes out.

`python -m tests.faults.oracle MODULE --seed N --rate N` with the settings in its environment.
Writes a line of JSON each tenth of a second; `stop` on its standard input (or its end) makes it
stop sending, wait for what is still to come, and say its verdict in a last line.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streams.errors import Unavailable
from streams.kafka import workarounds
from streams.kafka.connection import admin_client, client_options, producer
from streams.settings import Settings, load_settings
from streams.spec import Pipeline
from streams.spec.layout import unpack
from tests.faults.customers import DAY
from tests.faults.judge import Judge
from tests.faults.sender import HISTORY_EVENTS, Sender
from tests.faults.truth import (
    SPEED,
    START,
    Generator,
    Truth,
)
from workers.environment import find_pipeline
from workers.processes.supervisor import end_with_parent
from workers.releases.checking import TOLERANCE
from workers.releases.onnx_files import run, session
from workers.releases.repository import Repository

_STATUS = 0.1
_DRAIN = 90.0
"""Most seconds to wait for what is still to come after the last event."""
_SETTLE = 2.0
"""Seconds to wait for what must not come."""
_METADATA_MS = 1000
"""Partitions that are added are seen within this time."""
_FALLBACK = 0
_AT_ONCE = 500
"""Records judged at once: the sender and the clock wait meanwhile, too."""


class FileScores:
    """Checks scores by running the versions' ONNX files here, some hundreds at a time."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._sessions: dict[int, Any] = {}
        self._waiting: dict[int, list[tuple[str, bytes, float]]] = {}

    def add(self, name: str, version: int, vector: bytes, score: float) -> list[str]:
        """Check one, perhaps later; the names of those found wrong by now."""
        if version == _FALLBACK:
            return [name]  # there is a champion from the start
        waiting = self._waiting.setdefault(version, [])
        waiting.append((name, vector, score))
        return self._check(version) if len(waiting) >= 512 else []

    def rest(self) -> list[str]:
        """The names of those found wrong among what was not checked yet."""
        return [name for version in list(self._waiting) for name in self._check(version)]

    def _check(self, version: int) -> list[str]:
        waiting = self._waiting.pop(version)
        if version not in self._sessions:
            file = self._repository.directory(version) / "model.onnx"
            self._sessions[version] = session(file.read_bytes())
        vectors = unpack([vector for _, vector, _ in waiting])
        expected = run(self._sessions[version], vectors)[:, 0].tolist()
        return [
            name
            for (name, _, score), right in zip(waiting, expected, strict=True)
            if abs(score - right) > TOLERANCE
        ]


class Reader:
    """Reads every topic from its beginning, committed records only, and has them judged."""

    def __init__(self, settings: Settings, pipeline: Pipeline, judge: Judge) -> None:
        topics = pipeline.topics
        self._judge = judge
        self._source = topics.events
        self._take: dict[str, Callable[[ConsumerRecord], bool]] = {
            topics.predictions: judge.prediction,
            topics.scored: judge.scored,
            topics.dead_letters: judge.dead_letter,
            topics.examples: judge.example,
        }
        self.partitions = settings.partitions
        self._waiting: dict[TopicPartition, deque[ConsumerRecord]] = {}
        self._consumer = AIOKafkaConsumer(
            **client_options(settings),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=4 << 20,
            metadata_max_age_ms=_METADATA_MS,
        )

    @property
    def unmatched(self) -> int:
        """Records that wait for an event which nobody has sent."""
        return sum(map(len, self._waiting.values()))

    async def run(self) -> None:
        """Read until cancelled."""
        await self._consumer.start()
        try:
            while True:
                if len(self._waiting) < self.partitions * (1 + len(self._take)):
                    await self._assign()
                found = await self._consumer.getmany(timeout_ms=50, max_records=_AT_ONCE)
                for tp, records in found.items():
                    if tp.topic == self._source:
                        for record in records:
                            self._judge.source(record)
                    else:
                        self._waiting[tp].extend(records)
                self._judge_waiting()
        finally:
            with suppress(KafkaError):
                await self._consumer.stop()

    async def _assign(self) -> None:
        """Read partitions that are new, too, from their beginning."""
        at = {tp: await self._consumer.position(tp) for tp in self._waiting}
        for topic in (self._source, *self._take):
            for number in range(self.partitions):
                self._waiting.setdefault(TopicPartition(topic, number), deque())
        self._consumer.assign(list(self._waiting))
        for tp in self._waiting:
            self._consumer.seek(tp, at.get(tp, 0))

    def _judge_waiting(self) -> None:
        for tp, waiting in self._waiting.items():
            take = self._take.get(tp.topic)
            while waiting and take is not None and take(waiting[0]):
                waiting.popleft()


async def oracle(settings: Settings, pipeline: Pipeline, seed: int, rate: float) -> None:
    """Send, read, report; then the verdict."""
    delivery = settings.delivery or pipeline.policies.delivery
    scores = FileScores(Repository(settings.model_repository, pipeline.name))
    judge = Judge(Truth(HISTORY_EVENTS), scores, delivery == "exactly_once")
    generator = Generator(seed, settings.partitions)
    stopping = asyncio.Event()
    reader = Reader(settings, pipeline, judge)
    async with producer(settings, linger_ms=5, metadata_max_age_ms=_METADATA_MS) as out:
        sender = Sender(out, pipeline, generator, rate)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(reader.run())
            telling = tasks.create_task(_tell(judge, sender, reader))
            growing = tasks.create_task(_grow(settings, pipeline, out, generator, reader))
            tasks.create_task(_listen(stopping))
            await sender.history()
            while judge.open or judge.counts["source"] < HISTORY_EVENTS:
                await asyncio.sleep(_STATUS)
            await sender.live(stopping)
            await _drain(judge, sender)
            reading.cancel()
            telling.cancel()
            growing.cancel()
    judge.conclude(reader.unmatched)
    sent = {"sent": sender.sent, "unacknowledged": sender.unacknowledged}
    _say({"verdict": judge.report() | sent})


async def _drain(judge: Judge, sender: Sender) -> None:
    deadline = time.monotonic() + _DRAIN
    while time.monotonic() < deadline:
        read = judge.counts["source"] + sender.unacknowledged >= sender.sent
        if read and not judge.open:
            break
        await asyncio.sleep(_STATUS)
    await asyncio.sleep(_SETTLE)


async def _grow(
    settings: Settings,
    pipeline: Pipeline,
    out: AIOKafkaProducer,
    generator: Generator,
    reader: Reader,
) -> None:
    """Read, and send to, partitions that are added, once all topics have them."""
    topics = pipeline.topics
    while True:
        await asyncio.sleep(1.0)
        with suppress(KafkaError, Unavailable):  # a broker that is killed
            async with admin_client(settings) as admin:
                described = await admin.describe_topics(list(topics.partitioned))
            now = min(len(one["partitions"]) for one in described)
            known = [await out.partitions_for(topic) for topic in (topics.events, topics.feedback)]
            if now > reader.partitions and all(len(numbers) >= now for numbers in known):
                reader.partitions = now
                generator.grow(now)


async def _tell(judge: Judge, sender: Sender, reader: Reader) -> None:
    """Where things are: `newest` and `examples` say how recent the outputs are, by partition."""
    while True:
        examples = {
            partition: sender.began + (at + 7 * DAY - START) / SPEED
            for partition, at in judge.newest_example.items()
        }
        _say(
            {
                "at": time.time(),
                "live": bool(sender.began),
                "sent": sender.sent,
                "partitions": reader.partitions,
                "predicted": judge.counts["predicted"],
                "open": judge.open,
                "offences": judge.offences.total(),
                "named": dict(judge.named),
                "newest": judge.newest,
                "examples": examples,
            }
        )
        await asyncio.sleep(_STATUS)


async def _listen(stopping: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.readline()
    stopping.set()


def _say(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Run the oracle."""
    workarounds.apply()
    end_with_parent()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="module of the pipeline")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=500.0, help="events a second")
    given = parser.parse_args()
    asyncio.run(oracle(load_settings(), find_pipeline(given.module), given.seed, given.rate))


if __name__ == "__main__":
    main()
