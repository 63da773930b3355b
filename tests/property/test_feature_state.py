"""Random plans and streams: memory equals brute force, Redis equals memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.adapters.memory.state import MemoryFeatureState
from streams.adapters.redis.state import Library, RedisFeatureState
from streams.ports.features import FeatureState, Folded, LabelsFolded
from streams.spec.windows import FoldPlan, KeyPlan, Kind, Scan
from tests.folds import E, L, fold_batch, label_batch
from tests.reference.brute_force import BruteForce
from tests.valkey import Valkey

_SMALL = Library.of(block=4)
"""Windows of some events are several blocks of a scan."""

names = (f"random-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@dataclass(frozen=True)
class Case:
    """A plan, and steps: micro-batches of events, each followed by labels."""

    plan: FoldPlan
    steps: list[tuple[list[E], list[L]]]


money = st.integers(-(10**7), 10**7).map(lambda cents: cents / 100)
numbers = st.one_of(
    money,
    st.integers(-3, 3).map(float),
    st.floats(-1e12, 1e12, allow_subnormal=False),
)


@st.composite
def key_plans(
    draw: st.DrawFn, name: str, values: tuple[str, ...], fields: tuple[str, ...], remember: int
) -> KeyPlan:
    edges = sorted(
        draw(st.sets(st.sampled_from([0, 1, 2, 5, 9, 30, 10**7]), min_size=2, max_size=5))
    )
    pairs = list(itertools.combinations(range(len(edges)), 2))
    windows = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=4, unique=True))
    labels = draw(st.booleans())
    scans = draw(st.lists(_scans(pairs, fields), max_size=5, unique=True)) if fields else []
    return KeyPlan(
        key=name,
        edges=tuple(edges),
        values=values,
        labels=labels,
        windows=tuple(windows),
        remember=remember,
        label_age=draw(st.sampled_from(edges)) if labels else 0,
        classes=draw(st.sampled_from([(), (), (1,), (2, 0)])) if labels else (),
        scanned=tuple(dict.fromkeys(scan.field for scan in scans if scan.field)),
        scans=tuple(scans),
    )


def _scans(pairs: list[tuple[int, int]], fields: tuple[str, ...]) -> st.SearchStrategy[Scan]:
    """Any kind, in any window, whether or not that is a window of sums too."""
    window, field = st.sampled_from(pairs), st.sampled_from(fields)
    back = st.integers(1, 3)
    return st.one_of(
        st.builds(Scan, st.sampled_from([*Kind][:5]), window, field),
        st.builds(Scan, st.just(Kind.BACK), window, field, back),
        st.builds(Scan, st.just(Kind.SINCE), window, st.just(""), back),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    fields = draw(st.sampled_from([(), ("x",), ("x", "y")]))
    other = draw(st.sampled_from([(), ("y",), ("x",)])) if len(fields) == 2 else ()
    remember = draw(st.sampled_from([0, 0, 3, 20, 50]))
    scanned = draw(st.sampled_from([(), fields, ("z",)]))
    keys = [draw(key_plans("k", fields, scanned, remember))]
    if draw(st.booleans()):
        keys.append(draw(key_plans("o", other, scanned, 0)))
    plan = FoldPlan(tuple(keys))
    kind = draw(st.sampled_from([money, numbers]))
    now = draw(st.sampled_from([0, 1_500_000_000]))
    past: list[E] = []
    steps = []
    for _ in range(draw(st.integers(1, 5))):
        events: list[E] = []
        for _ in range(draw(st.integers(0, 12))):
            if past and draw(st.integers(0, 9)) == 0:
                events.append(draw(st.sampled_from(past)))
                continue
            now += draw(st.sampled_from([0, 0, 1, 1, 3, 7, 40, 9 * 10**6]))
            late = draw(st.sampled_from([0, 0, 0, 1, 2, 6, 25, 10**7]))
            event = E(
                max(0, now - late),
                tuple(draw(st.sampled_from("ab")) for _ in keys),
                draw(st.integers(0, 2**64 - 1)),
                tuple(draw(kind) for _ in plan.values),
            )
            events.append(event)
            past.append(event)
        steps.append((events, _labels(draw, plan, past)))
    return Case(plan, steps)


def _labels(draw: st.DrawFn, plan: FoldPlan, past: list[E]) -> list[L]:
    """Labels of past events, corrections, and labels of events that never were."""
    if not past or not plan.label_keys:
        return []
    chosen = draw(st.lists(st.sampled_from(past), max_size=5))
    labelled = [k for k, key in enumerate(plan.keys) if key.labels]
    return [
        L(
            event.time + draw(st.sampled_from([0, 0, 0, 1])),
            tuple(event.names[k] for k in labelled),
            draw(st.sampled_from([1.0, -1.0, 0.0, 2.5, 1 / 3, 1e6])),
            tuple(draw(st.sampled_from([1.0, 0.0, -1.0])) for _ in plan.classes),
        )
        for event in chosen
    ]


@asynccontextmanager
async def opened(kind: str, server: Valkey, plan: FoldPlan) -> AsyncIterator[FeatureState]:
    """A fresh state; closed also where hypothesis ends an example half way."""
    state: FeatureState = MemoryFeatureState(plan)
    if kind == "redis":
        state = await RedisFeatureState.connect(server.url, next(names), plan, library=_SMALL)
    try:
        yield state
    finally:
        await state.close()


async def play(state: FeatureState, case: Case) -> tuple[list[Folded], list[LabelsFolded]]:
    answers, counts = [], []
    offset = label_offset = 0
    for events, labels in case.steps:
        if events:
            answers.append(await state.fold(fold_batch(events, offset)))
        if labels:
            counts.append(await state.fold_labels(label_batch(labels, label_offset)))
        offset += len(events)
        label_offset += len(labels)
    return answers, counts


def close(one: Folded, aggregates: np.ndarray, duplicate: np.ndarray, case: Case) -> None:
    """Equal up to rounding that is relative to the largest sum: signs may cancel."""
    largest = sum(abs(v) for events, _ in case.steps for e in events for v in e.values)
    np.testing.assert_array_equal(one.duplicate, duplicate)
    at = 0
    for key in case.plan.keys:
        at += key.width
        for column, scan in enumerate(key.scans, at - len(key.scans)):
            if scan.kind != Kind.STD:  # they are values of events, whatever these are
                np.testing.assert_array_equal(one.aggregates[:, column], aggregates[:, column])
    np.testing.assert_allclose(one.aggregates, aggregates, rtol=1e-9, atol=1e-15 * largest + 1e-9)


@given(cases())
@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
def test_memory_equals_brute_force(case: Case) -> None:
    answers, counts = asyncio.run(play(MemoryFeatureState(case.plan), case))
    truth = BruteForce(case.plan)
    for events, labels in case.steps:
        if events:
            close(answers.pop(0), *truth.fold(fold_batch(events)), case)
        if labels:
            assert counts.pop(0) == LabelsFolded(*truth.fold_labels(label_batch(labels)))


@given(cases())
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_redis_equals_memory(server: Valkey, case: Case) -> None:
    async def both() -> None:
        async with opened("redis", server, case.plan) as state:
            answers, counts = await play(state, case)
        expected, expected_counts = await play(MemoryFeatureState(case.plan), case)
        for one, other in zip(answers, expected, strict=True):
            close(one, other.aggregates, other.duplicate, case)
        assert counts == expected_counts

    asyncio.run(both())


@given(cases(), st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_a_replay_with_any_boundaries_equals_the_first_time(
    server: Valkey, kind: str, case: Case, data: st.DataObject
) -> None:
    events = [event for step, _ in case.steps for event in step]
    if not events:
        return

    async def replayed(state: FeatureState) -> Folded:
        whole = Folded(np.empty((0, case.plan.width)), np.empty(0, bool))
        while (done := len(whole.duplicate)) < len(events):
            # a batch may begin anywhere in what was folded, and end anywhere after
            start = data.draw(st.integers(0, done))
            end = data.draw(st.integers(start + 1, len(events)))
            part = await state.fold(fold_batch(events[start:end], start))
            known = min(done, end)
            again = Folded(whole.aggregates[start:known], whole.duplicate[start:known])
            np.testing.assert_array_equal(part.aggregates[: known - start], again.aggregates)
            np.testing.assert_array_equal(part.duplicate[: known - start], again.duplicate)
            whole = Folded(
                np.concatenate([whole.aggregates, part.aggregates[known - start :]]),
                np.concatenate([whole.duplicate, part.duplicate[known - start :]]),
            )
        return whole

    async def run() -> None:
        async with opened(kind, server, case.plan) as state:
            whole = await replayed(state)
        once, _ = await play(MemoryFeatureState(case.plan), replace(case, steps=[(events, [])]))
        close(whole, once[0].aggregates, once[0].duplicate, case)

    asyncio.run(run())
