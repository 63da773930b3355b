"""Faults of stock Faust that a real broker shows, beside ours: markers, and a second member.

The other specs, and these in more detail, are in `tests/faust_faults` on a broker in memory; see
`docs/faust.md`.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic
from faust.types import TP
from pydantic import SecretStr

from streams.engine import app as engine
from streams.kafka.connection import admin_client, client_options, producer
from streams.kafka.offsets import offsets_client
from streams.settings import Settings
from tests.faust_faults.applications import Doing, Job, Place, Stock, our_app, stock_app
from tests.faust_faults.subjects import Violation, must, must_come, spec
from tests.waiting import until
from workers.devstack.stack import Stack

KINDS = ("exactly_once",)
"""Of ours; the other is in `tests/faust_faults`."""
_numbers = itertools.count()


class Group:
    """One application as the first member of its group, on a topic of two partitions."""

    def __init__(self, settings: Settings, topic: str, app: Any, job: Job) -> None:
        self.settings = settings
        self.topic = topic
        self.app = app
        self.job = job

    async def produce(self, values: Iterable[str], partition: int) -> None:
        async with producer(self.settings) as out:
            for value in values:
                await out.send_and_wait(self.topic, value.encode(), partition=partition)

    async def committed(self) -> dict[int, int]:
        """By partition; 0 where there is nothing."""
        async with offsets_client(self.settings) as asked:
            found = await asked.committed(self.app.conf.id, self.topic, (0, 1))
        return {number: offset or 0 for number, offset in found.items()}

    @asynccontextmanager
    async def joined(self, within: float) -> AsyncIterator[set[int]]:
        """A second member, once it has its partitions; raises TimeoutError."""
        member = AIOKafkaConsumer(
            self.topic,
            **client_options(self.settings),
            group_id=self.app.conf.id,
            partition_assignment_strategy=[self.app.consumer._thread._assignor],
            enable_auto_commit=False,
            session_timeout_ms=6000,
            heartbeat_interval_ms=300,
        )
        try:
            async with asyncio.timeout(within):
                await member.start()
            yield {tp.partition for tp in member.assignment()}
        finally:
            self.job.release()
            await member.stop()


@pytest.fixture(scope="module")
def open_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker that asks for no password: the stock application gives none."""
    home = tmp_path_factory.mktemp("open")
    others = {"triton": "not.needed:1", "redis": SecretStr("redis://not.needed:1/0")}
    given = Settings(state_dir=home, model_repository=home / "models").model_copy(update=others)
    with Stack(given, private=False) as addresses:
        yield addresses.kafka
    _forget_stock_applications()


def _forget_stock_applications() -> None:
    """What failed as it should is held by its traceback, and leaves connections open: other tests
    would be blamed for them."""
    sys.last_value = sys.last_traceback = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def settings(open_kafka: str) -> Settings:
    return Settings(kafka=open_kafka)


@asynccontextmanager
async def group(
    kind: str, settings: Settings, patch: pytest.MonkeyPatch, stock: Stock, **changes: Any
) -> AsyncIterator[Group]:
    """The application, once it has both partitions."""
    place = Place(settings.kafka, *(f"faults-{next(_numbers)}-{end}" for end in ("in", "out")))
    async with admin_client(settings) as admin:
        await admin.create_topics([NewTopic(t, 2, 1) for t in (place.events, place.out)])
    patch.setattr(engine, "_spare_the_collector", lambda: None)
    job = Job()
    app = (
        stock_app(place, stock, job)
        if kind == "stock"
        else our_app(
            place, kind, lambda _: Doing(job, place.out), {"session_timeout_ms": 6000, **changes}
        )
    )
    try:
        async with asyncio.timeout(30):
            await app.start()
        assert app.consumer.assignment() == {TP(place.events, 0), TP(place.events, 1)}
        yield Group(settings, place.events, app, job)
    finally:
        job.release()
        async with asyncio.timeout(20):
            await app.stop()


@spec("A2: the record after a gap counts as acknowledged", KINDS)
async def test_transaction_markers_do_not_commit_the_record_after_them(
    kind: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with group(kind, settings, monkeypatch, Stock(concurrency=2)) as run:
        run.job.hold(b"3")
        upstream: AIOKafkaProducer
        async with producer(settings, transactional_id="upstream") as upstream:
            for values in (["0", "1"], ["3"], ["5"]):  # 2, 4 and 6 are markers
                async with upstream.transaction():
                    for value in values:
                        await upstream.send(run.topic, value.encode(), partition=0)
        await until(lambda: b"3" in run.job.seen)
        if kind == "stock":
            await until(lambda: b"5" in run.job.done)
            await asyncio.sleep(0.05)
            await run.app.consumer.commit()
        else:
            await asyncio.sleep(0.3)
        must((await run.committed())[0] <= 3, "commit nothing that is in hand")


@spec("A4: acknowledgements are dropped before the last commit", KINDS)
async def test_a_second_member_begins_where_the_first_one_was(
    kind: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = {"transaction_ms": 10_000.0, "commit_ms": 10_000.0}
    async with group(kind, settings, monkeypatch, Stock(), **later) as run:
        for partition in (0, 1):
            await run.produce((f"{partition}-{n}" for n in range(5)), partition)
        await until(lambda: len(run.job.done) == 10)
        assert await run.committed() == {0: 0, 1: 0}
        async with run.joined(within=10):
            must(await run.committed() == {0: 5, 1: 5}, "commit what is done before it goes")


@spec("A11: the rebalance waits for the agent, however long that takes", KINDS)
async def test_a_slow_record_does_not_keep_a_second_member_out(
    kind: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with group(kind, settings, monkeypatch, Stock()) as run:
        run.job.hold(b"slow")
        await run.produce(["slow"], 0)
        await until(lambda: b"slow" in run.job.seen)
        with suppress(TimeoutError):
            async with run.joined(within=4):  # the session is 6 s
                assert await run.committed() == {0: 0, 1: 0}
                return
        raise Violation("let the second member in")


@spec("A12: it is not sought back where nothing is committed yet", KINDS)
async def test_what_a_fetch_brings_in_the_middle_of_a_rebalance_is_read_again(
    kind: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with group(kind, settings, monkeypatch, Stock()) as run:
        assigned, over = run.app.consumer.on_partitions_assigned, asyncio.Event()

        async def slowly(partitions: Any, generation: int = 0) -> None:
            for partition in (0, 1):
                await run.produce([f"{partition}-first"], partition)
            await asyncio.sleep(0.3)
            await assigned(partitions, generation)
            over.set()

        monkeypatch.setattr(run.app.consumer, "on_partitions_assigned", slowly)
        async with run.joined(within=10) as theirs:
            [mine] = {0, 1} - theirs
            await until(lambda: over.is_set() and not run.app.rebalancing)
            await run.produce([f"{mine}-second"], mine)
            await until(lambda: f"{mine}-second".encode() in run.job.done, within=10)
            await must_come(
                lambda: f"{mine}-first".encode() in run.job.done, "read the first one", within=0.5
            )
