"""Workers as processes that can be killed, and what goes in and comes out of Kafka around them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete

from streams.kafka.connection import (
    admin_client,
    producer,
    reader,
)
from streams.kafka.offsets import offsets_client
from streams.kafka.topics import group_id
from streams.settings import Settings
from streams.spec import Pipeline
from tests.waiting import until
from workers.environment import environment
from workers.processes.supervisor import PARENT

ROOT = Path(__file__).parents[2]
MODULE = """\
from dataclasses import replace

from {source} import pipeline as card_fraud

feedback = replace(card_fraud.feedback, keep="30d")
pipeline = replace(card_fraud, name="{name}", feedback=feedback)
"""

Record = tuple[bytes | None, bytes | None]


def card_fraud_module(
    folder: Path, name: str, source: str = "streams.pipelines.card_fraud"
) -> Pipeline:
    """Card fraud, of a module, under another name, and with corrections for longer; also as a
    module."""
    folder.mkdir(exist_ok=True)
    (folder / f"{_module(name)}.py").write_text(MODULE.format(name=name, source=source))
    found: Pipeline = import_module(source).pipeline
    return replace(found, name=name, feedback=replace(found.feedback, keep="30d"))


def _module(name: str) -> str:
    return name.replace("-", "_")


def child_environment(settings: Settings, folder: Path) -> dict[str, str]:
    """For a process that imports a pipeline's module from a folder, and ends when we do."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    mine = {"PYTHONPATH": path, PARENT: str(os.getpid())}
    return {**os.environ, **environment(settings), **mine}


class Workers:
    """Worker processes of one pipeline; all are gone when the context is left."""

    def __init__(self, settings: Settings, pipeline: Pipeline, folder: Path) -> None:
        self._settings = settings
        self._module = _module(pipeline.name)
        self._folder = folder
        self._ending = ExitStack()
        self._started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def start(self, role: str, program: Sequence[str] = (), **changes: Any) -> Worker:
        """Start `score`, `label`, `evaluate` or `trainer`, with some settings changed.

        `program`: another module to run, and its arguments before the pipeline's module.
        """
        self._started += 1
        command = program or ("workers.cli", role)
        settings = self._settings.model_copy(update=changes)
        log = self._folder / f"{role}-{self._started}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *command, self._module],
                env=child_environment(settings, self._folder),
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        worker = Worker(process, log)
        self._ending.callback(worker.end)
        return worker


class Worker:
    """A worker process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.log = log

    def kill(self) -> None:
        """End it with SIGKILL, as a crash of the machine would."""
        assert self.alive, self.said()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def suspend(self) -> None:
        """Stop it in the middle of whatever it does; it does not notice."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended process go on."""
        self._process.send_signal(signal.SIGCONT)

    async def exit_code(self, timeout: float) -> int:
        """The exit code, of a process that ends by itself."""
        return await asyncio.to_thread(self._process.wait, timeout)

    def end(self) -> None:
        """End it with SIGTERM; with SIGKILL where that does not do."""
        if self.alive:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    async def joined(self) -> bool:
        """Whether it runs and has had partitions."""
        return self.alive and self.assignments > 0

    @property
    def assignments(self) -> int:
        """How often it was given partitions; an outage since then may have filled its log."""
        return self.times_said(b"partitions assigned")

    def times_said(self, what: bytes) -> int:
        """How often its log has these words."""
        return self.log.read_bytes().count(what)

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-8000:]


async def publish(
    settings: Settings, topic: str, records: Iterable[Record], *, partition: int | None = None
) -> None:
    """Write records and wait until all are acknowledged."""
    async with producer(settings, linger_ms=5) as out:
        sent = [
            await out.send(topic, key=key, value=value, partition=partition)
            for key, value in records
        ]
        await asyncio.gather(*sent)


async def trickle(settings: Settings, topic: str, records: Sequence[Record], rate: float) -> None:
    """Write records at about `rate` a second."""
    step = max(1, round(rate / 20))
    async with producer(settings, linger_ms=5) as out:
        for start in range(0, len(records), step):
            begun = time.monotonic()
            sent = [
                await out.send(topic, key=key, value=value)
                for key, value in records[start : start + step]
            ]
            await asyncio.gather(*sent)
            await asyncio.sleep(max(0.0, begun + step / rate - time.monotonic()))


class Output:
    """Everything that a read_committed consumer sees on a topic, from its beginning."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self.records: list[ConsumerRecord] = []
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        self._consumer = reader(self._settings, self._topic)
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._consumer is not None
        await self._consumer.stop()

    async def has(self, count: int) -> bool:
        """Read what there is; whether it is at least so many records in all."""
        assert self._consumer is not None
        found = await self._consumer.getmany(timeout_ms=100)
        for records in found.values():
            self.records += records
        return len(self.records) >= count

    async def wait(self, count: int, timeout: float = 40.0) -> float:
        """Wait for so many records in all; returns the seconds that it took."""
        what = f"{count} records on {self._topic}"
        return await until(lambda: self.has(count), what, timeout)

    async def settle(self, seconds: float = 0.5) -> None:
        """Read what else comes: for tests that nothing more does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await self.has(0)


async def caught_up(settings: Settings, pipeline: Pipeline, role: str, topic: str) -> bool:
    """Whether a group has committed the end of a topic that was not written in transactions."""
    async with offsets_client(settings) as asked:
        ends = await asked.ends(topic)
        committed = await asked.committed(group_id(pipeline.name, role), topic, ends)
    return all((committed[number] or 0) >= end for number, end in ends.items())


async def delete_below(settings: Settings, topic: str, starts: Mapping[int, int]) -> None:
    """Delete a topic's records below these offsets, by partition, as retention does."""
    wanted = {
        TopicPartition(topic, number): RecordsToDelete(before_offset=start)
        for number, start in starts.items()
    }
    async with admin_client(settings) as admin:
        await admin.delete_records(wanted)


async def members(settings: Settings, group: str) -> int:
    """How many members a consumer group has whose assignment is settled; 0 while it is not."""
    async with admin_client(settings) as admin:
        [answer] = await admin.describe_consumer_groups([group])
    [(_, _, state, _, _, found, *_)] = answer.groups
    return len(found) if state == "Stable" else 0
