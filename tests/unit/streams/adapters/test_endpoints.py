"""Which of several Tritons is asked, which is left alone, and how one is repaired."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
import structlog
from prometheus_client import REGISTRY

from streams.adapters.triton import endpoint as triton_endpoint
from streams.adapters.triton import endpoints as triton_endpoints
from streams.adapters.triton.circuit import FAILURES, LONGEST, PAUSE
from streams.adapters.triton.client import Overloaded
from streams.adapters.triton.endpoint import PATIENCE, QUIET_SECONDS, Endpoint
from streams.adapters.triton.endpoints import TritonEndpoints
from streams.adapters.triton.resolving import Resolver
from streams.errors import ConfigurationError, ModelError, Unavailable
from streams.settings import Settings
from tests.unit.tritons import ONE, Clock, Triton, among, away, not_serving


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_endpoints, "WATCH_SECONDS", 0.005)
    monkeypatch.setattr(triton_endpoint, "_SPREAD", 0.0)


def of(clock: Callable[[], float], *servers: Triton) -> TritonEndpoints:
    endpoints = [Endpoint("orders", f"t{s.number:g}", s, s, clock) for s in servers]
    return among(*endpoints)


def states(scorer: TritonEndpoints) -> list[str]:
    return [endpoint.circuit.state for endpoint in scorer.endpoints]


def gauge(address: str) -> float | None:
    labels = {"pipeline": "orders", "endpoint": address}
    return REGISTRY.get_sample_value("driftloop_triton_circuit", labels)


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def fails(call: Callable[[], Awaitable[object]], kind: type[Exception]) -> None:
    for _ in range(FAILURES):
        with pytest.raises(kind):
            await call()


# -- choice --------------------------------------------------------------------------------------


async def test_a_request_that_one_endpoint_fails_goes_to_the_next_at_once(clock: Clock) -> None:
    first, second = Triton(1, clock), Triton(2, clock, takes=0.1)
    scorer = of(clock, first, second)
    first.error = away()
    for _ in range(10):
        assert (await scorer.infer(1, ONE)).tolist() == [[2]]
    assert first.asked == FAILURES
    assert second.asked == 10
    assert states(scorer) == ["open", "closed"]
    assert (gauge("t1"), gauge("t2")) == (1, 0)


async def test_requests_go_to_the_endpoint_with_least_in_flight(clock: Clock) -> None:
    first, second = Triton(1, clock), Triton(2, clock)
    first.answers.clear()
    scorer = of(clock, first, second)
    waiting = [asyncio.create_task(scorer.infer(1, ONE)) for _ in range(2)]
    await asyncio.sleep(0)
    assert (first.asked, second.asked) == (1, 1)
    first.answers.set()
    assert sorted([(await task).item() for task in waiting]) == [1, 2]


async def test_the_endpoint_that_has_been_quicker_is_asked(clock: Clock) -> None:
    slow, quick = Triton(1, clock, takes=0.02), Triton(2, clock, takes=0.002)
    scorer = of(clock, slow, quick)
    for _ in range(20):
        await scorer.infer(1, ONE)
    assert (slow.asked, quick.asked) == (1, 19)
    quick.takes = 0.2
    for _ in range(20):
        await scorer.infer(1, ONE)
    assert slow.asked > 15


async def test_how_slow_one_was_before_it_failed_is_forgotten(clock: Clock) -> None:
    first, second = Triton(1, clock, takes=0.4), Triton(2, clock, takes=0.02)
    scorer = of(clock, first, second)
    for _ in range(5):
        await scorer.infer(1, ONE)
    first.error, second.error = away(), away()
    await fails(lambda: scorer.infer(1, ONE), Unavailable)
    first.error, second.error, first.takes = None, None, 0.002
    clock.now += LONGEST
    scorer.watch(lambda: (1,))
    await soon(lambda: states(scorer) == ["closed", "closed"])
    assert (await scorer.infer(1, ONE)).item() == 1
    await scorer.close()


async def test_no_batch_is_the_probe_of_a_circuit_while_another_is_closed(clock: Clock) -> None:
    first, second = Triton(1, clock), Triton(2, clock, takes=0.1)
    scorer = of(clock, first, second)
    first.error = away()
    for _ in range(FAILURES):
        await scorer.infer(1, ONE)
    asked = first.asked
    clock.now += LONGEST
    await scorer.infer(1, ONE)
    assert first.asked == asked
    first.error = None
    scorer.watch(lambda: (1,))
    await soon(lambda: states(scorer) == ["closed", "closed"])
    assert (await scorer.infer(1, ONE)).item() == 1
    await scorer.close()


async def test_nobody_is_asked_about_nothing(clock: Clock) -> None:
    server = Triton(1, clock)
    scorer = of(clock, server)
    server.error = away()
    await fails(lambda: scorer.infer(1, ONE), Unavailable)
    assert (await scorer.infer(1, ONE[:0])).shape == (0, 1)
    assert server.asked == FAILURES


async def test_one_that_refuses_as_it_is_full_stays_among_those_asked(clock: Clock) -> None:
    first, second = Triton(1, clock), Triton(2, clock, takes=0.1)
    scorer = of(clock, first, second)
    first.error = Overloaded(Settings(triton="t1"), "orders version 1", "its queue is full")
    for _ in range(2 * FAILURES):
        assert (await scorer.infer(1, ONE)).item() == 2
    assert states(scorer) == ["closed", "closed"]
    second.error = first.error
    await fails(lambda: scorer.infer(1, ONE), Overloaded)
    first.error = None
    assert (await scorer.infer(1, ONE)).item() == 1


# -- failures ------------------------------------------------------------------------------------


async def test_with_every_circuit_open_nobody_is_asked_and_the_error_comes_at_once(
    clock: Clock,
) -> None:
    servers = Triton(1, clock), Triton(2, clock)
    scorer = of(clock, *servers)
    for server in servers:
        server.error = away()
    await fails(lambda: scorer.infer(1, ONE), Unavailable)
    asked = [server.asked for server in servers]
    with pytest.raises(Unavailable, match=r"t1,t2.*circuit is open"):
        await scorer.infer(1, ONE)
    assert [server.asked for server in servers] == asked
    clock.now += 2 * PAUSE
    servers[1].error = None
    assert (await scorer.infer(1, ONE)).item() == 2


async def test_with_every_circuit_open_it_says_what_a_triton_that_is_there_lacks(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot(version: int, *, died: bool = False) -> None:
        raise not_serving(died=False)

    server = Triton(1, clock)
    server.error = not_serving(died=True)
    monkeypatch.setattr(server, "restore", cannot)
    scorer = of(clock, server)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"does not serve orders \(a reason\).*rollback"):
            await scorer.infer(1, ONE)
    assert server.asked == 1
    await scorer.close()


async def test_one_triton_alone_leaves_it_to_others_to_say_that_it_is_away(clock: Clock) -> None:
    server = Triton(1, clock)
    scorer = among(Endpoint("orders", "t1", server, server, clock, alone=True))
    server.error = away()
    with structlog.testing.capture_logs() as lines:
        await fails(lambda: scorer.infer(1, ONE), Unavailable)
    assert [line["log_level"] for line in lines] == ["info"]


async def test_the_log_tells_an_outage_once_and_its_end(clock: Clock) -> None:
    server = Triton(1, clock)
    scorer = of(clock, server)
    server.error = away()
    with structlog.testing.capture_logs() as lines:
        await fails(lambda: scorer.infer(1, ONE), Unavailable)
        for _ in range(3):
            clock.now += 2 * LONGEST
            with pytest.raises(Unavailable):
                await scorer.infer(1, ONE)
        server.error = None
        clock.now += 2 * LONGEST
        await scorer.infer(1, ONE)
    assert [(line["endpoint"], line["event"]) for line in lines] == [
        ("t1", "a Triton fails, others get its requests until it answers"),
        ("t1", "a Triton gets requests again"),
    ]


async def test_an_endpoint_that_hangs_is_given_up_for_another_and_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triton_endpoint, "PATIENCE", 0.03)
    first, second = Triton(1), Triton(2)
    scorer = of(time.monotonic, first, second)
    first.answers.clear()
    async with asyncio.timeout(5):
        assert (await scorer.infer(1, ONE)).item() == 2
    assert states(scorer) == ["open", "closed"]


async def test_the_last_endpoint_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_endpoint, "PATIENCE", 0.01)
    server = Triton(1)
    scorer = of(time.monotonic, server)
    server.answers.clear()
    task = asyncio.create_task(scorer.infer(1, ONE))
    await asyncio.sleep(0.05)
    server.answers.set()
    assert (await task).item() == 1
    assert states(scorer) == ["closed"]


@pytest.mark.parametrize(("waited", "state"), [(PATIENCE, "open"), (PATIENCE / 10, "closed")])
async def test_a_request_that_its_caller_gave_up_is_a_failure(
    clock: Clock, waited: float, state: str
) -> None:
    server = Triton(1, clock)
    scorer = of(clock, server)
    server.answers.clear()
    task = asyncio.create_task(scorer.infer(1, ONE))
    await asyncio.sleep(0)
    clock.now += waited
    task.cancel()
    await asyncio.wait([task])
    assert states(scorer) == [state]


async def test_a_version_that_is_wrong_everywhere_opens_nothing(clock: Clock) -> None:
    servers = Triton(1, clock), Triton(2, clock)
    scorer = of(clock, *servers)
    for server in servers:
        server.error = ModelError("not finite")
    await fails(lambda: scorer.infer(1, ONE), ModelError)
    assert states(scorer) == ["closed", "closed"]
    assert [server.asked for server in servers] == [FAILURES, FAILURES]


async def test_an_endpoint_that_is_wrong_where_another_is_right_is_opened(clock: Clock) -> None:
    broken, sound = Triton(1, clock), Triton(2, clock, takes=0.1)
    scorer = of(clock, broken, sound)
    broken.error = ModelError("out of memory")
    for _ in range(2 * FAILURES):
        assert (await scorer.infer(1, ONE)).item() == 2
    assert states(scorer) == ["open", "closed"]
    assert broken.asked == FAILURES


# -- repair --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("died", "state"), [(True, "open"), (False, "closed")])
async def test_what_an_endpoint_lost_is_brought_back_and_its_circuit_closed(
    clock: Clock, died: bool, state: str
) -> None:
    server = Triton(1, clock)
    scorer = of(clock, server)
    server.error = not_serving(died=died)
    with pytest.raises(Unavailable):
        await scorer.infer(3, ONE)
    assert states(scorer) == [state]
    await soon(lambda: server.restored == [(3, died)] and states(scorer) == ["closed"])
    await scorer.close()


async def test_one_without_a_control_leaves_repairs_to_others(clock: Clock) -> None:
    server = Triton(1.0)
    alone = Endpoint("orders", "t1", server, None, clock)
    scorer = among(alone)
    server.error = not_serving(died=True)
    await fails(lambda: scorer.infer(1, ONE), Unavailable)
    await asyncio.sleep(0)
    assert server.restored == []
    await scorer.close()


async def test_what_another_worker_has_repaired_is_left_alone(clock: Clock) -> None:
    server = Triton(1, clock)
    scorer = of(clock, server)
    server.error = not_serving(died=True)
    with pytest.raises(Unavailable):
        await scorer.infer(3, ONE)
    server.error = None
    await soon(lambda: states(scorer) == ["closed"])
    assert server.restored == []
    await scorer.close()


async def test_what_waits_for_a_dead_process_is_asked_anew_once_there_is_another(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_endpoint, "PATIENCE", 0.01)
    server = Triton(1, clock)
    scorer = of(clock, server)
    server.answers.clear()
    waiting = asyncio.create_task(scorer.infer(1, ONE))
    await asyncio.sleep(0)
    clock.now += 1
    with pytest.raises(Unavailable):
        await dies(scorer, server)
    clock.now += 1
    with pytest.raises(Unavailable, match="no answer"):
        await waiting
    assert server.restored == [(1, True)]
    assert states(scorer) == ["closed"], "what was asked of the dead one is not held against it"
    assert (await scorer.infer(1, ONE)).tolist() == [[1]]


async def dies(scorer: TritonEndpoints, server: Triton) -> None:
    """The next request learns that the process has died; those after it wait until it is new."""
    server.answers, server.error = asyncio.Event(), not_serving(died=True)
    server.answers.set()
    asked = asyncio.create_task(scorer.infer(1, ONE))
    await asyncio.sleep(0)
    server.answers = asyncio.Event()
    await asked


async def test_the_watchdog_repairs_a_dead_backend_without_traffic(clock: Clock) -> None:
    server = Triton(1, clock)
    server.error = not_serving(died=True)
    scorer = of(clock, server)
    scorer.watch(lambda: (3,))
    await soon(lambda: server.error is None and states(scorer) == ["closed"])
    await scorer.close()
    assert server.restored == [(3, True)]


async def test_the_watchdog_asks_only_endpoints_that_have_been_quiet(clock: Clock) -> None:
    server = Triton(1, clock)
    scorer = of(clock, server)
    await scorer.infer(3, ONE)
    scorer.watch(lambda: (3,))
    clock.now += QUIET_SECONDS * 0.9
    await asyncio.sleep(0.05)
    assert server.asked == 1
    clock.now += QUIET_SECONDS * 0.2
    await soon(lambda: server.asked == 2)
    await scorer.close()


async def test_the_watchdog_asks_nobody_before_the_first_version(clock: Clock) -> None:
    server = Triton(1, clock)
    scorer = of(clock, server)
    scorer.watch(tuple)
    await asyncio.sleep(0.05)
    await scorer.close()
    assert server.asked == 0


# -- settings ------------------------------------------------------------------------------------


def test_endpoints_are_separated_by_commas() -> None:
    assert [one.triton for one in Resolver(Settings(triton="a:1, b:2,")).fixed] == ["a:1", "b:2"]


@pytest.mark.parametrize("addresses", ["", " , "])
def test_no_endpoint_at_all_is_a_mistake(addresses: str) -> None:
    with pytest.raises(ConfigurationError, match=r"DRIFTLOOP_TRITON=.* names no address"):
        Resolver(Settings(triton=addresses))
