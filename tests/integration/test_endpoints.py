"""Two real Tritons on one repository: each may die, hang or lose its model; scoring goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import psutil
import pytest

from streams.adapters.triton import resolving
from streams.adapters.triton.client import Overloaded
from streams.adapters.triton.control import TritonControl, TritonControls
from streams.adapters.triton.endpoints import TritonEndpoints
from streams.aio.retrying import until_available
from streams.errors import DriftloopError, Unavailable
from streams.ledger.state import LedgerState
from streams.ledger.topic import read_state
from streams.records import Prediction, decoder
from streams.settings import Settings
from streams.spec import Batching, Fallback, Infer, Pipeline, Policies
from tests.faults.harness import Output, Workers, trickle
from tests.integration.test_publish import judged, released
from tests.models import linear, manifest, publish_first
from tests.synthetic import START, declare
from tests.waiting import until
from workers.devstack.servers import Server, free_port, spawn, triton
from workers.devstack.stack import GUARD
from workers.releases.publisher import Publisher

DELAY = 1.0
"""Seconds that a request may take when an endpoint dies or hangs under it."""
RATE = 400
"""Events a second."""
MODULE = """\
from dataclasses import replace
from streams.spec import Fallback, Policies
from tests.synthetic import declare
fallback = Fallback(score=0.125, after=0.5)
pipeline = replace(declare("{name}"), policies=Policies(fallback=fallback))
"""


@dataclass
class Running:
    """A Triton of the test's own, which nobody starts again."""

    server: Server
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """SIGKILL, for it and its stubs."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def hang(self) -> None:
        """SIGSTOP: its port accepts, and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def stubs(self, model: str) -> list[psutil.Process]:
        """The processes that run a model."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if _runs(child, model)]

    async def revive(self) -> None:
        """Start it again, or let it go on; returns when it answers."""
        self.process.send_signal(signal.SIGCONT)
        if self.process.poll() is not None:
            self.process = spawn(self.server, GUARD)
        await until(self.server.healthy, within=30)


def _runs(child: psutil.Process, model: str) -> bool:
    """Whether a process runs a model; one that has just ended does not."""
    try:
        return (
            child.name().startswith("triton_python")
            and child.status() != psutil.STATUS_ZOMBIE
            and f"/{model}/" in " ".join(child.cmdline())
        )
    except psutil.NoSuchProcess:
        return False


Pair = tuple[Running, Running]
Both = tuple[Running, Running, Settings]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two Tritons that read one repository."""
    home, fetched = tmp_path_factory.mktemp("pair"), Settings().cache_dir
    servers = [
        triton(home / name, home / name, free_port(), home / "models", fetched, print, None)
        for name in ("one", "two")
    ]
    one, two = [Running(server, spawn(server, GUARD)) for server in servers]
    yield one, two
    for running in (one, two):
        running.kill()
        for pattern in running.server.leftovers:
            for path in Path("/dev/shm").glob(pattern):
                path.unlink(missing_ok=True)


@pytest.fixture
async def both(pair: Pair, settings: Settings) -> Both:
    """Both of them, in order, and settings that name them."""
    for running in pair:
        await running.revive()
    one, two = pair
    models = pair[0].server.log.parents[1] / "models"
    addresses = f"{one.server.address},{two.server.address}"
    no_tls = {"triton_tls": False} | {f"triton_{k}file": None for k in ("ca", "cert", "key")}
    named = {"triton": addresses, "model_repository": models}
    settings = settings.model_copy(update={**named, **no_tls})
    # gRPC connects again after a pause, a new client as well as the one that saw it away
    found = TritonControls(settings, "any")
    await until_available("test", "connect", found.alive)
    await found.close()
    return one, two, settings


@pytest.fixture
def named(both: Both, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, list[str]]:
    """Settings with a name, and the addresses that it leads to: of the first, until changed."""
    leads_to = [both[0].server.address]

    async def look_up(host: str, port: int) -> list[str]:
        assert (host, port) == ("tritons", 8001)
        return list(leads_to)

    monkeypatch.setattr(resolving, "look_up", look_up)
    monkeypatch.setattr(resolving, "SECONDS", 0.2)
    monkeypatch.setattr(resolving, "SOONEST", 0.0)
    return both[2].model_copy(update={"triton": "dns:///tritons:8001"}), leads_to


@dataclass
class Requests:
    """What came of constant requests."""

    count: int = 0
    slowest: float = 0.0
    """Seconds."""
    failures: list[str] = field(default_factory=list)

    async def more(self, count: int) -> None:
        """Return when so many more were answered."""
        wanted = self.count + count
        await until(lambda: self.count >= wanted, within=30)


@asynccontextmanager
async def requests(scorer: TritonEndpoints) -> AsyncIterator[Requests]:
    """Four streams of requests while the block runs."""
    found, vectors = Requests(), np.zeros((64, 4), np.float32)

    async def ask() -> None:
        while True:
            begun = time.monotonic()
            try:
                await scorer.infer(1, vectors)
                found.count += 1
            except DriftloopError as error:
                found.failures.append(str(error))
            found.slowest = max(found.slowest, time.monotonic() - begun)
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(ask()) for _ in range(4)]
    try:
        await found.more(100)
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def watched(
    settings: Settings, declared: Pipeline, *versions: int
) -> AsyncIterator[TritonEndpoints]:
    """A scorer that knows that these versions serve; without any, the first."""
    scorer = TritonEndpoints.of(settings, declared)
    scorer.watch(lambda: versions or (1,))
    try:
        yield scorer
    finally:
        await scorer.close()


def states(scorer: TritonEndpoints) -> list[str]:
    return [endpoint.circuit.state for endpoint in scorer.endpoints]


@pytest.mark.parametrize("harm", ["kill", "hang"])
async def test_one_of_two_that_goes_away_fails_no_request(both: Both, harm: str) -> None:
    one, _, settings = both
    declared = declare(f"endpoint-{harm}")
    await publish_first(settings, declared, linear(4))
    async with watched(settings, declared) as scorer, requests(scorer) as seen:
        getattr(one, harm)()
        begun = time.monotonic()
        await until(lambda: states(scorer)[0] == "open")
        opened = time.monotonic() - begun
        await seen.more(400)
        begun = time.monotonic()
        await one.revive()
        healthy = time.monotonic() - begun
        await until(lambda: states(scorer) == ["closed", "closed"])
        closed = time.monotonic() - begun - healthy
        await seen.more(400)
    print(
        f"{harm}: slowest {seen.slowest:.2f} s, open after {opened:.2f} s, "
        f"closed {closed:.2f} s after it was healthy"
    )
    assert seen.failures == []
    assert seen.slowest < DELAY


async def test_one_behind_a_name_joins_once_it_serves_and_another_leaves(
    both: Both, named: tuple[Settings, list[str]]
) -> None:
    """Neither fails a request: the version is loaded into the one that joins before it gets any."""
    one, two, _ = both
    settings, leads_to = named
    declared = declare("endpoint-names")
    await publish_first(settings, declared, linear(4))
    late = TritonControl(settings.model_copy(update={"triton": two.server.address}), declared.name)
    assert not await late.ready(1)

    def asked() -> list[str]:
        return [endpoint.address for endpoint in scorer.endpoints]

    async with watched(settings, declared) as scorer:
        await until(lambda: asked() == [one.server.address], "the first is known")
        async with requests(scorer) as seen:
            leads_to.append(two.server.address)
            await until(lambda: len(asked()) == 2, "the second has joined")
            assert await late.ready(1)
            await seen.more(200)
            del leads_to[0]
            await until(lambda: asked() == [two.server.address], "the first has left")
            one.kill()
            await seen.more(200)
    assert seen.failures == []
    await late.close()


async def test_one_that_missed_a_version_gets_no_request_before_it_has_it(
    both: Both, named: tuple[Settings, list[str]]
) -> None:
    """It answers for the champion all the time; the challenger was published while it was away."""
    one, two, _ = both
    settings, leads_to = named
    declared = declare("endpoint-missing")
    leads_to.append(two.server.address)
    first = await publish_first(settings, declared, linear(4))
    leads_to.remove(two.server.address)
    data, publisher = linear(4, bias=1.0), Publisher(settings, declared)
    publisher.stage(manifest(declared, 2, data), data, "")
    await publisher.serve(2, LedgerState(champion=1, promoted=(1,), versions={1: first}))
    await publisher.close()
    late = TritonControl(settings.model_copy(update={"triton": two.server.address}), declared.name)
    assert (await late.ready(1), await late.ready(2)) == (True, False)
    before = {stub.pid for stub in one.stubs(declared.name)}
    async with watched(settings, declared, 1, 2) as scorer:
        await until(lambda: len(scorer.endpoints) == 1, "the first is known")
        async with requests(scorer) as seen:
            leads_to.append(two.server.address)
            await until(lambda: len(scorer.endpoints) == 2, "the second has joined")
            assert await late.ready(2)
            await seen.more(200)
    assert before == {stub.pid for stub in one.stubs(declared.name)}, "what it had, it kept"
    assert seen.failures == []
    await late.close()


async def test_one_that_is_told_to_stop_fails_no_request(both: Both) -> None:
    one, _, settings = both
    declared = declare("endpoint-stopped")
    await publish_first(settings, declared, linear(4))
    async with watched(settings, declared) as scorer, requests(scorer) as seen:
        one.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(one.process.wait)
        await until(lambda: states(scorer)[0] == "open")
        await seen.more(200)
        with suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)  # nothing of it holds the port any more
    print(f"stopped: slowest {seen.slowest:.2f} s")
    assert seen.failures == []
    assert seen.slowest < DELAY


async def test_instances_come_and_go_and_no_request_fails(both: Both) -> None:
    one, _, settings = both
    declared = declare("endpoint-instances")
    infer = Infer(most_instances=4, batching=Batching(delay=200))
    declared = replace(declared, policies=replace(declared.policies, infer=infer))
    first = await publish_first(settings, declared, linear(4))
    publisher = Publisher(settings, declared)
    async with watched(settings, declared) as scorer, requests(scorer) as seen:
        for count in (3, 1, 2):
            async with publisher.alone():
                await publisher.resize(count, {1: first})
            await seen.more(200)
            await until(lambda n=count: len(one.stubs(declared.name)) == n, "so many run")  # type: ignore[misc]
            assert publisher.instances == count
    await publisher.close()
    print(f"instances: slowest {seen.slowest:.2f} s")
    assert seen.failures == []
    assert seen.slowest < DELAY


async def test_what_a_full_queue_refuses_is_answered_all_the_same(both: Both) -> None:
    _, _, settings = both
    declared = declare("endpoint-queue")
    infer = Infer(batching=Batching(queue=1))
    declared = replace(declared, policies=replace(declared.policies, infer=infer))
    await publish_first(settings, declared, linear(4))
    refused, vectors = 0, np.zeros((4096, 4), np.float32)
    async with watched(settings, declared) as scorer:

        async def ask() -> None:
            nonlocal refused
            try:
                await scorer.infer(1, vectors)
            except Unavailable as error:  # which may be the half second of Triton's batcher, too
                refused += isinstance(error, Overloaded)
                await until_available("test", "infer", lambda: scorer.infer(1, vectors))

        await asyncio.gather(*(ask() for _ in range(20)))
    assert refused > 0


async def test_a_dead_backend_process_is_replaced_without_traffic(both: Both) -> None:
    one, _, settings = both
    declared = declare("endpoint-stub")
    await publish_first(settings, declared, linear(4))
    control = TritonControl(
        settings.model_copy(update={"triton": one.server.address}), declared.name
    )
    async with watched(settings, declared) as scorer:
        dead = one.stubs(declared.name)
        for stub in dead:
            stub.kill()
        assert await control.ready(1), "Triton notices by itself: the watchdog is not needed"
        begun = time.monotonic()
        await until(lambda: states(scorer)[0] == "open")
        opened = time.monotonic() - begun
        await until(lambda: states(scorer) == ["closed", "closed"])
        print(f"stub: open after {opened:.2f} s, repaired after {time.monotonic() - begun:.2f} s")
    alive = {stub.pid for stub in one.stubs(declared.name)}
    assert len(alive) == len(dead)
    assert not alive & {stub.pid for stub in dead}
    await control.close()


async def test_a_version_is_published_everywhere_or_not_at_all(both: Both) -> None:
    one, two, settings = both
    declared = declare("endpoint-publish")
    life = await released(settings, declared, 1)
    for running in (one, two):
        assert running.stubs(declared.name)
    two.kill()
    with pytest.raises(Unavailable, match=two.server.address):
        await life.release(judged(declared, 0.3, parent=1))
    assert (await read_state(settings, declared)).champion == 1
    await two.revive()
    again = judged(declared, 0.3, parent=1)
    await until_available("test", "publish", lambda: life.release(again))
    assert (await read_state(settings, declared)).champion == 2
    await life.close()


async def test_an_endpoint_without_the_version_gets_it_without_traffic(both: Both) -> None:
    _, two, settings = both
    declared = declare("endpoint-missed")
    await publish_first(settings, declared, linear(4))
    control = TritonControl(
        settings.model_copy(update={"triton": two.server.address}), declared.name
    )
    await control.unload()
    async with watched(settings, declared):
        await until(lambda: control.ready(1))
    await control.close()


@pytest.mark.parametrize("harm", ["kill", "hang"])
async def test_with_both_away_the_fallback_answers_in_time_and_then_the_model(
    both: Both, tmp_path: Path, harm: str
) -> None:
    one, two, settings = both
    name = f"both-{harm}"
    (tmp_path / f"both_{harm}.py").write_text(MODULE.format(name=name))
    policies = Policies(fallback=Fallback(score=0.125, after=0.5))
    declared = replace(declare(name), policies=policies)
    life = await released(settings, declared, 1)
    source = Source(settings, declared)
    with Workers(settings, declared, tmp_path) as workers:
        await until(workers.start("score").joined)
        async with Output(settings, declared.topics.predictions) as output:
            stream = asyncio.create_task(source.flow())
            await output.wait(400)
            for running in (one, two):
                getattr(running, harm)()
            before, begun = len(output.records), time.monotonic()
            await until(lambda: answers(output, before, degraded=True))
            first = time.monotonic() - begun
            await output.wait(before + 1200)
            lasted = time.monotonic() - begun
            for running in (one, two):
                await running.revive()
            before, begun = len(output.records), time.monotonic()
            await until(lambda: answers(output, before, degraded=False))
            back = time.monotonic() - begun
            source.enough = True
            await stream
            await output.wait(source.sent)
            await output.settle()
    await life.close()
    print(
        f"{harm}: fallback after {first:.2f} s, 1,200 predictions in {lasted:.2f} s, "
        f"model {back:.2f} s after both were healthy"
    )
    found = [decoder(Prediction).decode(record.value) for record in output.records]
    assert len({prediction.event_id for prediction in found}) == len(found) == source.sent
    assert {(p.version, p.degraded) for p in found} == {(1, False), (0, True)}
    assert {p.score for p in found if p.degraded} == {0.125}
    assert first < 0.5 + 1.5 * DELAY
    assert lasted < 1200 / RATE + 0.5 + 2 * DELAY


@dataclass
class Source:
    """Events at a steady pace for as long as it takes."""

    settings: Settings
    pipeline: Pipeline
    sent: int = 0
    enough: bool = False

    async def flow(self) -> None:
        """Publish until there is enough."""
        while not self.enough:
            await trickle(
                self.settings, self.pipeline.topics.events, readings(self.sent, RATE), RATE
            )
            self.sent += RATE


def readings(first: int, count: int) -> list[tuple[bytes, bytes]]:
    """Numbered events of 16 machines, with their keys."""
    values = {"a": 3.0, "b": -50.0, "c": 0.0, "constant": 7.0}
    records = []
    for i in range(first, first + count):
        machine, at = f"m{i % 16}", datetime.fromtimestamp(START + i, UTC).isoformat()
        event = {"reading_id": f"r{i}", "machine": machine, "at": at, **values}
        records.append((machine.encode(), orjson.dumps(event)))
    return records


async def answers(output: Output, before: int, *, degraded: bool) -> bool:
    """Whether predictions after so many are the fallback's, or the model's."""
    await output.has(0)
    decode = decoder(Prediction).decode
    return any(decode(record.value).degraded is degraded for record in output.records[before:])
