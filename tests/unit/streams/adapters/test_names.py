"""Tritons behind a name: they join when they serve, and leave when they have answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
import structlog
from numpy.typing import NDArray

from streams.adapters.triton import membership
from streams.adapters.triton.endpoint import Endpoint
from streams.adapters.triton.endpoints import TritonEndpoints
from streams.adapters.triton.membership import Membership
from streams.adapters.triton.resolving import SECONDS, SOONEST, PerTriton, Resolver
from streams.errors import Unavailable
from streams.settings import Settings
from streams.spec.layout import Layout
from tests.unit.tritons import ONE, Clock, Triton, away, not_serving

NAME = Settings(triton="dns:///tritons:8001")


class Names:
    """What a name leads to."""

    def __init__(self) -> None:
        self.found: list[str] | OSError = []
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        if isinstance(self.found, OSError):
            raise self.found
        return self.found


class Behind:
    """A scorer on the Tritons behind a name, each of which answers with its own number."""

    def __init__(self) -> None:
        self.clock, self.names = Clock(), Names()
        self.tritons = {f"10.0.0.{n}:8001": Triton(n) for n in (1, 2, 3)}
        self.closed = list[str]()
        resolver = Resolver(NAME, self.names, self.clock)
        self.members = Membership(resolver, self._endpoint, ONE)
        self.scorer = TritonEndpoints(self.members, Layout.of(2), 1)

    def _endpoint(self, one: Settings) -> Endpoint:
        server, closed = self.tritons[one.triton], self.closed

        class Closing(Endpoint):
            async def close(self) -> None:
                closed.append(self.address)
                await super().close()

        return Closing("orders", one.triton, server, server, self.clock)

    async def lead_to(self, *numbers: int) -> None:
        """Return when the requests go where the name leads now."""
        self.names.found = [f"10.0.0.{n}:8001" for n in numbers]
        self.clock.now += SECONDS
        await soon(lambda: sorted(self.asked) == list(numbers))

    @property
    def asked(self) -> list[int]:
        """Who gets requests."""
        return [int(one.address[7]) for one in self.scorer.endpoints]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "EVERY", 0.002)


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def busy() -> tuple[Behind, Triton, asyncio.Task[NDArray[np.float32]]]:
    """A scorer on the first, which has a request that it has not answered."""
    behind = Behind()
    behind.scorer.watch(tuple)
    await behind.lead_to(1)
    slow = behind.tritons["10.0.0.1:8001"]
    slow.answers.clear()
    waiting = asyncio.create_task(behind.scorer.infer(1, ONE))
    await soon(lambda: slow.asked == 1)
    return behind, slow, waiting


async def test_tritons_come_and_go_as_the_name_says() -> None:
    behind = Behind()
    with pytest.raises(Unavailable, match=r"dns:///tritons:8001.*none serves yet"):
        await behind.scorer.infer(1, ONE)
    await behind.lead_to(1, 2)
    assert behind.names.asked[0] == ("tritons", 8001)
    assert (await behind.scorer.infer(1, ONE)).item() in (1, 2)
    await behind.lead_to(2, 3)
    await soon(lambda: behind.closed == ["10.0.0.1:8001"])
    assert {(await behind.scorer.infer(1, ONE)).item() for _ in range(4)} <= {2, 3}
    await behind.scorer.close()
    assert sorted(behind.closed) == [f"10.0.0.{n}:8001" for n in (1, 2, 3)]


async def test_one_that_comes_gets_requests_once_it_serves_what_is_served() -> None:
    behind = Behind()
    late = behind.tritons["10.0.0.2:8001"]
    late.error = not_serving(died=False)
    late.answers.clear()
    late.lacks = {8}
    behind.scorer.watch(lambda: (7, 8))
    await behind.lead_to(1)
    behind.names.found = ["10.0.0.1:8001", "10.0.0.2:8001"]
    behind.clock.now += SECONDS
    await soon(lambda: late.asked == 1)
    with structlog.testing.capture_logs() as lines:
        late.answers.set()
        await soon(lambda: late.caught_up > 5)  # it has version 7 by now, and lacks 8
        for _ in range(3):
            assert (await behind.scorer.infer(7, ONE)).item() == 1
        late.lacks.clear()
        await soon(lambda: sorted(behind.asked) == [1, 2])
    assert (7, False) in late.restored
    said = [line["event"] for line in lines if line.get("endpoint") == "10.0.0.2:8001"]
    assert said.count("a Triton gets no requests until it serves what the others do") == 1
    assert said.count("a Triton joins") == 1
    await behind.scorer.close()


async def test_one_that_lacks_a_challenger_joins_where_nobody_else_answers() -> None:
    behind = Behind()
    behind.tritons["10.0.0.1:8001"].lacks = {8}
    behind.scorer.watch(lambda: (7, 8))
    await behind.lead_to(1)
    assert (await behind.scorer.infer(7, ONE)).item() == 1
    await behind.scorer.close()


async def test_a_failed_request_has_the_name_looked_up_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(membership, "EVERY", 60.0)
    behind = Behind()
    behind.names.found = ["10.0.0.1:8001"]
    behind.scorer.watch(tuple)
    await soon(lambda: behind.asked == [1])
    behind.tritons["10.0.0.1:8001"].error = away()
    behind.names.found = ["10.0.0.2:8001"]
    with pytest.raises(Unavailable):
        await behind.scorer.infer(1, ONE)
    await asyncio.sleep(0.01)
    assert len(behind.names.asked) == 1, "not twice in a moment"
    behind.clock.now += SOONEST
    with pytest.raises(Unavailable):
        await behind.scorer.infer(1, ONE)
    await soon(lambda: behind.asked == [2])
    assert (await behind.scorer.infer(1, ONE)).item() == 2
    await behind.scorer.close()


async def test_one_that_comes_back_while_it_leaves_is_asked_anew_afterwards() -> None:
    behind, slow, waiting = await busy()
    first = behind.scorer.endpoints[0]
    await behind.lead_to()
    behind.names.found = ["10.0.0.1:8001"]
    behind.clock.now += SECONDS
    await asyncio.sleep(0.02)
    assert behind.asked == []
    slow.answers.set()
    assert (await waiting).item() == 1
    await soon(lambda: behind.asked == [1])
    assert behind.scorer.endpoints[0] is not first
    await behind.scorer.close()
    assert len(behind.closed) == 2


async def test_one_that_leaves_is_closed_when_all_is() -> None:
    behind, slow, waiting = await busy()
    await behind.lead_to(2)
    await behind.scorer.close()
    assert sorted(behind.closed) == ["10.0.0.1:8001", "10.0.0.2:8001"]
    slow.answers.set()
    await waiting


async def test_one_that_leaves_answers_what_it_was_sent() -> None:
    behind, slow, waiting = await busy()
    await behind.lead_to(2)
    assert (await behind.scorer.infer(1, ONE)).item() == 2
    assert behind.closed == []
    slow.answers.set()
    assert (await waiting).item() == 1
    await soon(lambda: behind.closed == ["10.0.0.1:8001"])
    await behind.scorer.close()


async def test_while_nobody_knows_the_name_those_that_are_known_stay() -> None:
    behind = Behind()
    behind.scorer.watch(tuple)
    await behind.lead_to(1, 2)
    behind.names.found = OSError("no such name")
    before = len(behind.names.asked)
    with structlog.testing.capture_logs() as lines:
        for again in (1, 2, 3):
            behind.clock.now += SECONDS
            await soon(lambda n=again: len(behind.names.asked) >= before + n)  # type: ignore[misc]
    assert [line["log_level"] for line in lines] == ["warning"]
    assert sorted(behind.asked) == [1, 2]
    await behind.scorer.close()


async def test_each_endpoint_is_held_against_the_names_certificate() -> None:
    names = Names()
    names.found = ["10.0.0.1:8001", "[fd00::1]:8001"]
    both = Settings(triton="b:8001,dns:///tritons:8001")
    found = await Resolver(both, names, Clock()).now()
    assert [(one.triton, one.triton_server_name) for one in found] == [
        ("b:8001", ""),
        ("10.0.0.1:8001", "tritons"),
        ("[fd00::1]:8001", "tritons"),
    ]
    given = both.model_copy(update={"triton_server_name": "triton.example"})
    told = await Resolver(given, names, Clock()).now()
    assert {one.triton_server_name for one in told} == {"triton.example"}


async def test_something_of_ours_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    names, clock = Names(), Clock()
    made = PerTriton(NAME, lambda one: Triton(int(one.triton[7])))
    monkeypatch.setattr(made, "_resolver", Resolver(NAME, names, clock))
    assert await made.now() == []
    for numbers in ([1, 2], [2, 3]):
        names.found = [f"10.0.0.{n}:8001" for n in numbers]
        clock.now += SECONDS
        assert sorted(one.number for one in await made.now()) == numbers
