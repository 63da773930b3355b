"""Scans of windows that hold hundreds of events: memory and Redis answer as brute force does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from streams.adapters.memory import state as memory_state
from streams.adapters.memory.state import MemoryFeatureState
from streams.adapters.redis.state import Library, RedisFeatureState
from streams.ports.features import FeatureState
from streams.spec.windows import FoldPlan, KeyPlan, Kind, Scan
from tests.folds import E, L, fold_batch, label_batch
from tests.reference.brute_force import BruteForce
from tests.valkey import Valkey

names = (f"scans-{number}" for number in itertools.count())

_LONG, _DELAYED, _SHORT = (0, 3), (1, 3), (0, 2)
CARD = KeyPlan(
    key="card",
    edges=(0, 50, 300, 2000),
    values=("amount",),
    labels=True,
    windows=(_LONG, _SHORT),
    remember=100,
    label_age=50,
    classes=(1, 2),
    scanned=("amount", "shop"),
    scans=(
        *(Scan(kind, _LONG, "amount") for kind in (Kind.MIN, Kind.MAX, Kind.STD, Kind.FIRST)),
        Scan(Kind.DISTINCT, _LONG, "shop"),
        *(Scan(kind, _DELAYED, "amount") for kind in (Kind.MIN, Kind.STD)),
        Scan(Kind.MAX, _SHORT, "shop"),
        Scan(Kind.BACK, _LONG, "amount", 2),
        Scan(Kind.BACK, _DELAYED, "shop", 7),
        Scan(Kind.SINCE, _SHORT, "", 2),
    ),
)
SHOP = KeyPlan(
    key="shop",
    edges=(0, 400),
    values=(),
    labels=False,
    windows=((0, 1),),
    lag=200,
    scanned=("amount",),
    scans=(Scan(Kind.MAX, (0, 1), "amount"), Scan(Kind.SINCE, (0, 1), "", 2)),
)
PLAN = FoldPlan((CARD, SHOP))
EXACT = [c for c, s in enumerate(CARD.scans, CARD.width - len(CARD.scans)) if s.kind != Kind.STD]


def stream(count: int, money: Sequence[float]) -> list[E]:
    """Payments of two cards at three shops: some late, some again, one long after the others."""
    rng, time, events = np.random.default_rng(7), 1_500_000_000, list[E]()
    for number in range(count):
        time += int(rng.integers(0, 5))
        late = int(rng.integers(0, 2500)) if rng.random() < 0.1 else 0
        shop = int(rng.integers(3))
        values = (float(rng.choice(money)) + number / 100, float(shop * 2**50))
        event = E(time - late, (f"c{rng.integers(2)}", f"s{shop}"), number + 1, values)
        events.append(events[-5] if number > 5 and rng.random() < 0.05 else event)
    leap = 20_000_000  # beyond what 24 bits of seconds reach
    return [*events, replace_time(events[-1], time + leap), replace_time(events[-2], time + leap)]


def replace_time(event: E, time: int) -> E:
    return event._replace(time=time, id=event.id + 10**6)


async def opened(kind: str, request: pytest.FixtureRequest, library: Library) -> FeatureState:
    if kind == "memory":
        return MemoryFeatureState(PLAN)
    server: Valkey = request.getfixturevalue("valkey")
    return await RedisFeatureState.connect(server.url, next(names), PLAN, library=library)


@pytest.mark.parametrize("money", [(1.0, 20.25, -3.5), (1 / 3, 1e12, -2e-9)], ids=["money", "any"])
@pytest.mark.parametrize(
    ("kind", "library"),
    [("memory", Library.of()), ("redis", Library.of()), ("redis", Library.of(block=16))],
    ids=["memory", "redis", "redis-small-blocks"],
)
async def test_windows_of_hundreds_of_events(
    kind: str, library: Library, money: Sequence[float], request: pytest.FixtureRequest
) -> None:
    events, truth = stream(700, money), BruteForce(PLAN)
    state, first = await opened(kind, request, library), 0
    most = 0.0
    for size in itertools.cycle([1, 150, 40]):
        if not (some := events[first : first + size]):
            break
        batch = fold_batch(some, first)
        found, (aggregates, duplicate) = await state.fold(batch), truth.fold(batch)
        np.testing.assert_array_equal(found.duplicate, duplicate)
        np.testing.assert_array_equal(found.aggregates[:, EXACT], aggregates[:, EXACT])
        np.testing.assert_allclose(found.aggregates, aggregates, rtol=1e-9, atol=1e-3)
        again = await state.fold(batch)
        np.testing.assert_array_equal(again.aggregates, found.aggregates)
        labels = [L(one.time, (one.names[0],), 2.0, (0.0, 1.0)) for one in some[::7]]
        await state.fold_labels(label_batch(labels, first))
        truth.fold_labels(label_batch(labels, first))
        first, most = first + size, max(most, found.aggregates[:, 0].max())
    assert most > 256, "several times as many as are read at once"
    assert np.isnan(found.aggregates[-2, -1]), "nobody was there before"
    await state.close()


async def test_an_entity_that_has_too_many_events_finds_among_its_latest(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_state, "MOST_EVENTS", 64)
    monkeypatch.setattr(memory_state, "LEFT_EVENTS", 48)
    memory = await opened("memory", request, Library.of())
    redis = await opened("redis", request, Library.of(64, 48, block=8))
    events = stream(400, (1.0, 2.0))
    for first in range(0, len(events), 30):
        batch = fold_batch(events[first : first + 30], first)
        expected, found = await memory.fold(batch), await redis.fold(batch)
        np.testing.assert_allclose(found.aggregates, expected.aggregates, rtol=1e-9)
    assert 48 <= expected.aggregates[:, 0].max() <= 65
    await redis.close()


async def test_who_keeps_more_of_an_event_starts_afresh(request: pytest.FixtureRequest) -> None:
    """What is kept of an event names its place in Redis; what is found in it does not."""
    server: Valkey = request.getfixturevalue("valkey")
    name = next(names)

    async def position(plan: FoldPlan) -> int | None:
        state = await RedisFeatureState.connect(server.url, name, plan)
        try:
            return await state.position(0)
        finally:
            await state.close()

    state = await RedisFeatureState.connect(server.url, name, PLAN)
    await state.fold(fold_batch(stream(10, (1.0,))))
    await state.close()
    assert await position(replace(PLAN, keys=(replace(CARD, scans=CARD.scans[:3]), SHOP))) == 12
    for other in ({"scanned": ("amount",), "scans": ()}, {"classes": (1,)}):
        assert await position(replace(PLAN, keys=(replace(CARD, **other), SHOP))) is None
    assert await position(replace(PLAN, texts=frozenset({"shop"}))) is None
