"""How fast a contender goes and what it costs, seen from outside: by its topic and `psutil`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import numpy as np
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.connection import client_options
from streams.records import Scored, decoder
from streams.settings import Settings
from streams.spec.layout import Layout
from tests.bench.contenders import ContenderFailed
from tests.faults.harness import Worker

SAMPLE_SECONDS, SETTLE_SECONDS = 0.05, 0.5
START_SECONDS = 60.0
"""A contender that has written nothing by then has failed."""
WARM_SHARE, WARM_SECONDS = 0.1, 2.0
"""The span begins with this share of the events, or this long after the first prediction."""


@dataclass(frozen=True)
class Span:
    """What was measured between warm-up and the last event, or the end of the time."""

    events: int
    seconds: float
    cpu: Mapping[str, float]
    """CPU microseconds per event, by process; children are included."""
    complete: bool
    """Whether all events were done in time."""

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


@dataclass(frozen=True)
class Limits:
    """When a span ends."""

    events: int
    seconds: float


async def measure(
    settings: Settings, topic: str, worker: Worker, servers: Mapping[str, int], limits: Limits
) -> Span:
    """Follow a contender that has just been started, until it is done or its time is over.

    Progress is the committed end of its predictions, which were empty: transaction markers, some
    0.05 % of ours, are counted with them. `servers` are process ids.

    Raises:
        ContenderFailed: it ended, or wrote nothing for a minute.
    """
    processes = {"contender": worker.pid, **servers}
    consumer = AIOKafkaConsumer(**client_options(settings), isolation_level="read_committed")
    await consumer.start()
    partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]

    async def progress() -> int:
        await asyncio.sleep(SAMPLE_SECONDS)
        if not worker.alive:
            raise ContenderFailed(f"it ended: {' | '.join(worker.said().splitlines()[-4:])}")
        return sum((await consumer.end_offsets(partitions)).values())

    try:
        before = await _warm(progress, worker, limits.events)
        begun, spent = time.perf_counter(), _cpu(processes)
        done = before
        while done < limits.events and time.perf_counter() - begun < limits.seconds:
            done = await progress()
        seconds = time.perf_counter() - begun
        after = _cpu(processes)
        if done >= limits.events:
            await _settle(progress)
    finally:
        await consumer.stop()
    events = min(done, limits.events) - before
    if events <= 0:
        raise ContenderFailed(
            f"{done} of {limits.events} events before the span, none in its {seconds:.1f} s - "
            "use more events"
        )
    cpu = {name: (after[name] - spent[name]) / events * 1e6 for name in processes}
    return Span(events, seconds, cpu, done >= limits.events)


async def _warm(progress: Callable[[], Awaitable[int]], worker: Worker, events: int) -> int:
    """Predictions at the end of the warm-up."""
    started, first = time.monotonic(), 0.0
    while True:
        done, now = await progress(), time.monotonic()
        first = first or (now if done else 0.0)
        if done >= WARM_SHARE * events or (first and now - first > WARM_SECONDS):
            return done
        if not first and now - started > START_SECONDS:
            raise ContenderFailed(f"no prediction in {START_SECONDS:.0f} s: {worker.said()[-500:]}")


async def _settle(progress: Callable[[], Awaitable[int]]) -> None:
    """Let the last acknowledgements and commits come, which are not in the span."""
    done = -1
    while done != (done := await progress()):
        await asyncio.sleep(SETTLE_SECONDS)


def _cpu(processes: Mapping[str, int]) -> dict[str, float]:
    return {name: cpu_seconds(pid) for name, pid in processes.items()}


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and its children."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return float(sum(sum(member.cpu_times()[:2]) for member in family))


@dataclass(frozen=True)
class Answers:
    """All that a contender wrote about what it scored."""

    rows: Mapping[str, int]
    """Row by event id."""
    values: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    """[n, width + 1]: vector, or the row's bytes, and score."""

    def agreement(self, other: Answers) -> float:
        """Share of the events of both whose vectors and scores are the same."""
        common = self.rows.keys() & other.rows.keys()
        if not common:
            return 0.0
        mine = self.values[[self.rows[name] for name in common]]
        theirs = other.values[[other.rows[name] for name in common]]
        return float(np.isclose(mine, theirs, rtol=1e-4, atol=1e-5).all(axis=1).mean())


async def read_answers(settings: Settings, topic: str, layout: Layout) -> Answers:
    """Read a contender's topic of what was scored, to its end.

    Raises:
        ContenderFailed: an event is there twice.
    """
    decode = decoder(Scored).decode
    names: list[str] = []
    vectors: list[bytes] = []
    scores: list[float] = []
    consumer = AIOKafkaConsumer(**client_options(settings), isolation_level="read_committed")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for found in (await consumer.getmany(timeout_ms=200)).values():
                for record in found:
                    scored: Scored = decode(record.value)
                    assert isinstance(scored.score, float)
                    names.append(scored.event_id)
                    vectors.append(scored.vector)
                    scores.append(scored.score)
    finally:
        await consumer.stop()
    bare = layout.tabular or not vectors
    seen = layout.unpack(vectors) if bare else np.frombuffer(b"".join(vectors), np.uint8)
    seen = seen.reshape(len(vectors), -1)
    rows = {name: row for row, name in enumerate(names)}
    if len(rows) != len(names):
        raise ContenderFailed(f"{len(names) - len(rows)} of {len(names)} events were scored twice")
    return Answers(rows, np.column_stack([seen, np.array(scores, np.float32)]))
