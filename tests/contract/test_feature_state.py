"""What every feature state does, memory and Redis alike."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pytest

from streams.adapters.memory import state as memory_state
from streams.adapters.memory.state import MemoryFeatureState
from streams.adapters.redis.state import Library, RedisFeatureState
from streams.errors import StateBehind, StateLost
from streams.ports.features import FeatureState, Folded
from streams.spec.windows import FoldPlan, KeyPlan
from tests.folds import CARD, PLAN, SHOP, E, L, fold_batch, label_batch, label_fence
from tests.reference.brute_force import BruteForce
from tests.valkey import Valkey


class Make(Protocol):
    """Makes a fresh state of a plan."""

    async def __call__(self, plan: FoldPlan = PLAN) -> FeatureState: ...


names = (f"contract-{number}" for number in itertools.count())


@pytest.fixture(params=["memory", "redis"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes fresh states of a plan: each is a pipeline of its own."""
    made: list[FeatureState] = []

    async def state(plan: FoldPlan = PLAN) -> FeatureState:
        if request.param == "memory":
            made.append(MemoryFeatureState(plan))
        else:
            server: Valkey = request.getfixturevalue("valkey")
            made.append(await RedisFeatureState.connect(server.url, next(names), plan))
        return made[-1]

    yield state
    for each in made:
        await each.close()


@pytest.fixture
async def state(make: Make) -> FeatureState:
    return await make()


def same(one: Folded, other: Folded) -> None:
    np.testing.assert_array_equal(one.aggregates, other.aggregates)
    np.testing.assert_array_equal(one.duplicate, other.duplicate)


def buy(time: int, amount: float = 1.0, card: str = "c", shop: str = "s", id: int = 0) -> E:
    return E(time, (card, shop), id or time * 1000 + int(amount * 100) % 1000, (amount,))


def stream(n: int, seed: int = 0) -> list[E]:
    """Purchases with ties, late ones and repeats."""
    rng = np.random.default_rng(seed)
    time = 1_000
    events: list[E] = []
    for number in range(n):
        time += int(rng.integers(0, 8))
        late = int(rng.integers(0, 60)) if rng.random() < 0.2 else 0
        event = buy(
            time - late,
            round(float(rng.normal(20, 30)), 2),
            f"c{rng.integers(4)}",
            f"s{rng.integers(3)}",
            number + 1,
        )
        repeat = events[-int(rng.integers(1, 9))] if number > 9 and rng.random() < 0.1 else None
        events.append(repeat or event)
    return events


class TestWindows:
    async def test_counts_and_sums_this_event_and_those_in_the_window(
        self, state: FeatureState
    ) -> None:
        folded = await state.fold(fold_batch([buy(100, 1), buy(105, 2), buy(110, 4), buy(209, 8)]))
        assert folded.aggregates[:, :4].tolist() == [
            [1, 1, 1, 1],
            [2, 3, 2, 3],
            [2, 6, 3, 7],  # (100, 110]: the event at 100 has just left
            [1, 8, 2, 12],
        ]

    async def test_delayed_windows_end_before_this_event(self, state: FeatureState) -> None:
        folded = await state.fold(fold_batch([buy(100), buy(119), buy(120), buy(140), buy(259)]))
        assert folded.aggregates[:, 4:].tolist() == [
            [0, 0, 0, 0],
            [0, 0, 0, 0],
            [1, 0, 1, 0],
            [2, 0, 3, 0],
            [0, 0, 1, 0],
        ]

    async def test_a_window_that_empties_sums_to_exactly_zero(self, make: Make) -> None:
        key = KeyPlan("k", (5, 10), ("x",), False, ((0, 1),))
        state = await make(FoldPlan((key,)))
        events = [
            E(time, ("a",), 0, (value,))
            for time, value in [(100, 0.1), (101, 1e15 / 3), (102, -0.7), (200, 1 / 3), (300, 0)]
        ]
        folded = await state.fold(fold_batch(events))
        assert folded.aggregates.tolist() == [[0, 0]] * 5

    async def test_small_values_survive_beside_huge_ones(self, make: Make) -> None:
        state = await make(FoldPlan((KeyPlan("k", (0, 10), ("x",), False, ((0, 1),)),)))
        values = [1e15, 1 / 3, 2e-9, -1e15, 1e-9]
        events = [E(100 + 6 * i, ("a",), 0, (value,)) for i, value in enumerate(values)]
        folded = await state.fold(fold_batch(events))
        expected = [1e15, 1e15 + 1 / 3, 1 / 3 + 2e-9, -1e15 + 2e-9, -1e15 + 1e-9]
        np.testing.assert_allclose(folded.aggregates[:, 1], expected, rtol=1e-15)
        later = await state.fold(fold_batch([E(140, ("a",), 0, (1e-9,))], 5))
        assert later.aggregates.tolist() == [[1, 1e-9]]

    async def test_money_stays_exact_over_many_events(self, make: Make) -> None:
        state = await make(FoldPlan((KeyPlan("k", (0, 1000), ("x",), False, ((0, 1),)),)))
        events = [E(1000 + i, ("a",), 0, (0.1 if i % 2 else 0.2,)) for i in range(3000)]
        folded = await state.fold(fold_batch(events))
        assert folded.aggregates[-1].tolist() == [1000, 150.0]

    @pytest.mark.parametrize(
        "values",
        [
            [1.27, 1.28, 327.67, 327.68, 83886.07, 83886.08, 21474836.47, 21474836.48],
            [-1.27, -1.28, -327.67, -327.68, -83886.07, -83886.08, -21474836.47, -21474836.48],
            [0.0, -0.0, 5.0, 1 / 3, 7.25, 1e20, -1e20, 0.01],
        ],
    )
    async def test_values_of_any_size_in_one_entity(self, make: Make, values: Any) -> None:
        plan = FoldPlan((KeyPlan("k", (0, 1, 100), ("x",), False, ((0, 1), (0, 2), (1, 2))),))
        state, truth = await make(plan), BruteForce(plan)
        batch = fold_batch([E(100 + i, ("a",), 0, (value,)) for i, value in enumerate(values)])
        folded = await state.fold(batch)
        np.testing.assert_allclose(folded.aggregates, truth.fold(batch)[0], rtol=1e-9)

    async def test_events_of_one_second_count_those_before_them(self, state: FeatureState) -> None:
        folded = await state.fold(fold_batch([buy(100, id=1), buy(100, id=2), buy(100, id=3)]))
        assert folded.aggregates[:, 0].tolist() == [1, 2, 3]

    async def test_a_late_event_sees_its_own_time_and_is_counted_for_later_ones(
        self, state: FeatureState
    ) -> None:
        folded = await state.fold(fold_batch([buy(100, 1), buy(130, 2), buy(105, 4), buy(131, 8)]))
        assert folded.aggregates[:, :4].tolist()[2:] == [[2, 5, 2, 5], [2, 10, 4, 15]]

    async def test_an_event_older_than_all_that_is_kept_is_not_counted(
        self, state: FeatureState
    ) -> None:
        await state.fold(fold_batch([buy(1000)]))
        folded = await state.fold(fold_batch([buy(880, id=5), buy(900, id=6), buy(1001)], 1))
        assert folded.aggregates[:, 2].tolist() == [0, 0, 2]

    async def test_a_partition_that_is_behind_sees_what_another_has_moved_past(
        self, state: FeatureState
    ) -> None:
        old, ahead = buy(1000, 1, card="a"), buy(1145, 2, card="b")
        behind = buy(1118, 3, card="c")  # 118 s after the first: within the shop's 120
        await state.fold(fold_batch([old, ahead]))
        folded = await state.fold(fold_batch([behind], partition=1))
        assert folded.aggregates[0, 6] == 1

    async def test_equals_brute_force(self, state: FeatureState) -> None:
        truth = BruteForce(PLAN)
        events = stream(600)
        for first in range(0, len(events), 50):
            batch = fold_batch(events[first : first + 50], first)
            aggregates, duplicate = truth.fold(batch)
            folded = await state.fold(batch)
            np.testing.assert_array_equal(folded.duplicate, duplicate)
            np.testing.assert_allclose(folded.aggregates, aggregates, rtol=1e-9, atol=1e-9)

    async def test_history_over_years_and_long_gaps(self, state: FeatureState) -> None:
        truth = BruteForce(PLAN)
        times = [1, 2, 30, 20_000_000, 20_000_020, 40_000_000, 39_999_990, 4_200_000_000]
        for first, time in enumerate(times):
            batch = fold_batch([buy(time, id=first + 1)], first)
            folded = await state.fold(batch)
            np.testing.assert_allclose(folded.aggregates, truth.fold(batch)[0])

    async def test_names_are_any_bytes(self, state: FeatureState) -> None:
        odd = ["", "a:b", "{x}", "\0", "\n", "ü" * 300, "a"]
        events = [buy(100 + i, card=name, shop=name) for i, name in enumerate(odd * 2)]
        folded = await state.fold(fold_batch(events))
        assert folded.aggregates[:, 2].tolist() == [1] * 7 + [2] * 7

    async def test_one_entity_in_every_event(self, state: FeatureState) -> None:
        folded = await state.fold(fold_batch([buy(1000 + i // 100, id=i) for i in range(3000)]))
        assert not folded.duplicate.any()
        assert folded.aggregates[:, 2].tolist() == list(range(1, 3001))
        assert folded.aggregates[-1].tolist() == [1000, 1000, 3000, 3000, 1000, 0, 1000, 0]

    async def test_more_entities_than_one_read_takes(self, state: FeatureState) -> None:
        events = [buy(1000, card=f"c{i}", shop=f"s{i}", id=i + 1) for i in range(2500)]
        await state.fold(fold_batch(events))
        again = [event._replace(time=1001, id=event.id + 5000) for event in events]
        folded = await state.fold(fold_batch(again, 2500))
        assert folded.aggregates[:, 0].tolist() == [2] * 2500

    async def test_a_plan_without_windows_only_finds_duplicates(self, make: Make) -> None:
        state = await make(FoldPlan((KeyPlan("k", (), (), False, (), remember=10),)))
        folded = await state.fold(fold_batch([E(100, ("a",), 1), E(101, ("a",), 1)]))
        assert folded.aggregates.shape == (2, 0)
        assert folded.duplicate.tolist() == [False, True]

    async def test_a_plan_that_keeps_nothing_still_has_a_position(self, make: Make) -> None:
        state = await make(FoldPlan((KeyPlan("k", (), (), False, ()),)))
        batch = fold_batch([E(100, ("a",), 1), E(101, ("a",), 1)])
        folded = await state.fold(batch)
        assert folded.duplicate.tolist() == [False, False]
        assert await state.position(0) == 2
        same(await state.fold(batch), folded)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"values": np.array([[np.inf]])},
            {"values": np.array([[np.nan]])},
            {"values": np.empty((1, 0))},
            {"entities": [[b"c"]]},
            {"ids": np.empty(0, np.uint64)},
        ],
    )
    async def test_a_batch_that_does_not_fit_the_plan_is_refused(
        self, state: FeatureState, wrong: Any
    ) -> None:
        with pytest.raises(ValueError, match=r"values|entities"):
            await state.fold(replace(fold_batch([buy(100)]), **wrong))
        assert await state.position(0) is None


class TestDuplicates:
    async def test_a_repeated_event_changes_nothing(self, state: FeatureState) -> None:
        events = [buy(100, 1, id=7), buy(101, 2, id=7), buy(102, 4, id=8)]
        folded = await state.fold(fold_batch(events))
        assert folded.duplicate.tolist() == [False, True, False]
        assert folded.aggregates[1].tolist() == [0] * PLAN.width
        assert folded.aggregates[2, :2].tolist() == [2, 5]
        again = await state.fold(fold_batch([buy(103, 8, id=8), buy(130, 16, id=9)], 3))
        assert again.duplicate.tolist() == [True, False]
        assert again.aggregates[1, 4:].tolist() == [2, 0, 2, 0]

    async def test_ids_belong_to_the_key(self, state: FeatureState) -> None:
        folded = await state.fold(fold_batch([buy(100, card="a", id=7), buy(101, card="b", id=7)]))
        assert not folded.duplicate.any()

    async def test_an_id_is_forgotten_after_its_time(self, state: FeatureState) -> None:
        await state.fold(fold_batch([buy(100, id=7)]))
        folded = await state.fold(fold_batch([buy(149, id=7), buy(150, id=7), buy(151, id=7)], 1))
        assert folded.duplicate.tolist() == [True, False, True]

    async def test_ids_that_overlap_are_not_taken_for_one_another(
        self, state: FeatureState
    ) -> None:
        # the middle of the first two, as bytes, is the third
        first, second = 0x1122334455667788, 0x99AABBCCDDEEFF00
        middle = int.from_bytes(
            (first.to_bytes(8, "little") + second.to_bytes(8, "little"))[4:12], "little"
        )
        events = [buy(100, id=first), buy(101, id=second), buy(102, id=middle), buy(103, id=middle)]
        folded = await state.fold(fold_batch(events))
        assert folded.duplicate.tolist() == [False, False, False, True]

    async def test_late_events_are_remembered_too(self, state: FeatureState) -> None:
        events = [buy(200, id=1), buy(160, id=2), buy(140, id=3), buy(199, id=4)]
        await state.fold(fold_batch(events))
        again = [buy(201, id=2), buy(201, id=3), buy(201, id=4), buy(201, id=1)]
        folded = await state.fold(fold_batch(again, 4))
        assert folded.duplicate.tolist() == [True, False, True, True]


class TestReplay:
    async def test_the_same_batch_gets_the_same_answer_and_changes_nothing(
        self, state: FeatureState
    ) -> None:
        events = stream(60)
        first = await state.fold(fold_batch(events[:50]))
        same(await state.fold(fold_batch(events[:50])), first)
        fresh = MemoryFeatureState(PLAN)
        await fresh.fold(fold_batch(events[:50]))
        expected = await fresh.fold(fold_batch(events[50:], 50))
        got = await state.fold(fold_batch(events[50:], 50))
        np.testing.assert_allclose(got.aggregates, expected.aggregates, rtol=1e-12)

    @pytest.mark.parametrize(
        "bounds", [[0, 45, 100], [0, 10, 40, 41, 100], [25, 35, 100], [99, 100]]
    )
    async def test_with_other_boundaries(self, state: FeatureState, bounds: Any) -> None:
        events = stream(100, seed=3)
        once = Folded(np.empty((0, PLAN.width)), np.empty(0, bool))
        for start, end in itertools.pairwise([0, 30, 60, 61, 90, 100]):
            part = await state.fold(fold_batch(events[start:end], start))
            once = Folded(
                np.concatenate([once.aggregates, part.aggregates]),
                np.concatenate([once.duplicate, part.duplicate]),
            )
        for start, end in itertools.pairwise(bounds):
            again = await state.fold(fold_batch(events[start:end], start))
            same(again, Folded(once.aggregates[start:end], once.duplicate[start:end]))

    async def test_partly_folded_partly_new(self, make: Make) -> None:
        events = stream(100, seed=4)
        one, other = await make(), await make()
        whole = await one.fold(fold_batch(events))
        await other.fold(fold_batch(events[:70]))
        same(
            await other.fold(fold_batch(events[20:], 20)),
            Folded(whole.aggregates[20:], whole.duplicate[20:]),
        )
        assert await other.position(0) == 100

    async def test_offsets_with_gaps_where_records_were_bad(self, state: FeatureState) -> None:
        events = [buy(100), buy(101), buy(102)]
        batch = fold_batch(events, 10, offsets=[11, 14, 15], following=20)
        await state.reposition(0, 10)
        once = await state.fold(batch)
        assert await state.position(0) == 20
        same(await state.fold(batch), once)
        tail = fold_batch(events[1:], 12, offsets=[14, 15], following=22)
        same(await state.fold(tail), Folded(once.aggregates[1:], once.duplicate[1:]))
        assert await state.position(0) == 22

    async def test_a_batch_without_events_moves_on(self, state: FeatureState) -> None:
        empty = replace(fold_batch([], 5, following=9), entities=[[], []], values=np.empty((0, 1)))
        await state.reposition(0, 5)
        assert (await state.fold(empty)).aggregates.shape == (0, PLAN.width)
        assert (await state.fold(empty)).aggregates.shape == (0, PLAN.width)
        assert await state.position(0) == 9

    async def test_answers_go_once_committed(self, state: FeatureState) -> None:
        events = [buy(100 + i) for i in range(6)]
        await state.fold(fold_batch(events[:2]))
        second = await state.fold(fold_batch(events[2:4], 2))
        await state.fold(fold_batch(events[4:], 4, committed=2))
        same(await state.fold(fold_batch(events[2:4], 2)), second)
        with pytest.raises(StateLost, match="offset 1 before"):
            await state.fold(fold_batch(events[1:4], 1))

    async def test_floats_and_duplicates_replay_bit_for_bit(self, make: Make) -> None:
        plan = FoldPlan((KeyPlan("k", (0, 5, 50), ("x", "y"), True, ((0, 1), (1, 2)), 20, 5),))
        state = await make(plan)
        rng = np.random.default_rng(5)
        events = [
            E(100 + i, ("ab"[i % 2],), int(rng.integers(1, 30)), tuple(rng.normal(size=2).tolist()))
            for i in range(40)
        ]
        once = await state.fold(fold_batch(events))
        assert once.duplicate.any()
        part = await state.fold(fold_batch(events[7:33], 7))
        same(part, Folded(once.aggregates[7:33], once.duplicate[7:33]))


class TestFence:
    async def test_starts_at_zero_or_where_it_is_positioned(self, state: FeatureState) -> None:
        assert await state.position(0) is None
        with pytest.raises(StateBehind, match="ends at offset 0, expected 1000"):
            await state.fold(fold_batch([buy(100)], 1000))
        await state.reposition(0, 1000)
        await state.fold(fold_batch([buy(100)], 1000))
        assert await state.position(0) == 1001

    async def test_a_gap_is_refused(self, state: FeatureState) -> None:
        await state.fold(fold_batch([buy(100)]))
        with pytest.raises(StateBehind, match="ends at offset 1, expected 5") as caught:
            await state.fold(fold_batch([buy(101)], 5))
        assert caught.value.folded == 1
        folded = await state.fold(fold_batch([buy(102)], 1))
        assert folded.aggregates[0, 0] == 2

    async def test_reposition_moves_over_a_gap_and_never_back(self, state: FeatureState) -> None:
        await state.reposition(0, 40)
        assert await state.position(0) == 40
        once = await state.fold(fold_batch([buy(100)], 40))
        await state.reposition(0, 60)
        await state.reposition(0, 50)
        assert await state.position(0) == 60
        same(await state.fold(fold_batch([buy(100)], 40)), once)
        folded = await state.fold(fold_batch([buy(101)], 60))
        assert folded.aggregates[0, 0] == 2

    async def test_partitions_have_fences_of_their_own_and_share_entities(
        self, state: FeatureState
    ) -> None:
        await state.reposition(0, 7)
        await state.fold(fold_batch([buy(100, card="a")], 7, partition=0))
        folded = await state.fold(fold_batch([buy(130, card="b")], 0, partition=1))
        assert folded.aggregates[0].tolist() == [1, 1, 1, 1, 1, 0, 1, 0]
        assert [await state.position(partition) for partition in range(3)] == [8, 1, None]

    async def test_pipelines_do_not_meet(self, make: Make) -> None:
        one, other = await make(), await make()
        await one.fold(fold_batch([buy(100)]))
        folded = await other.fold(fold_batch([buy(101)]))
        assert folded.aggregates[0, 0] == 1
        assert await other.position(0) == 1


class TestWhole:
    async def test_what_must_be_whole_is_folded_only_into_a_state_that_is(
        self, state: FeatureState
    ) -> None:
        first = fold_batch([buy(100)])
        assert not await state.whole()
        with pytest.raises(StateBehind) as caught:
            await state.fold(replace(first, whole=True))
        assert (caught.value.folded, await state.position(0)) == (0, None)
        assert (await state.fold(first)).aggregates[0, 0] == 1
        with pytest.raises(StateBehind):  # an answer that is kept has to wait, too
            await state.fold(replace(first, whole=True))
        assert await state.declare_whole({0: 1})
        assert await state.whole()
        again = await state.fold(replace(fold_batch([buy(100), buy(101)]), whole=True))
        assert again.aggregates[:, 0].tolist() == [1, 2]

    async def test_it_is_not_whole_where_a_fence_is_below_its_end(
        self, state: FeatureState
    ) -> None:
        await state.fold(fold_batch([buy(100), buy(101)], partition=1))
        for ends in ({1: 3}, {1: 2, 2: 1}):
            assert not await state.declare_whole(ends)
            assert not await state.whole()
        assert await state.declare_whole({1: 2})
        assert await state.declare_whole({})
        assert await state.declare_whole({7: 0})  # committed, at the first record: nothing is lost


class TestLabels:
    async def test_count_once_their_event_is_old_enough(self, state: FeatureState) -> None:
        await state.fold(fold_batch([buy(100), buy(101), buy(102)]))
        counted = await state.fold_labels(label_batch([L(101, ("s",))]))
        assert (counted.added, counted.late, counted.expired) == (1, 0, 0)
        folded = await state.fold(fold_batch([buy(120), buy(121), buy(141), buy(142)], 3))
        assert folded.aggregates[:, 4:].tolist() == [
            [1, 0, 1, 0],
            [2, 1, 2, 1],
            [3, 0, 5, 1],
            [2, 0, 5, 1],
        ]

    async def test_late_ones_count_from_then_on(self, state: FeatureState) -> None:
        await state.fold(fold_batch([buy(100), buy(121)]))
        counted = await state.fold_labels(label_batch([L(100, ("s",))]))
        assert (counted.added, counted.late, counted.expired) == (0, 1, 0)
        folded = await state.fold(fold_batch([buy(122)], 2))
        assert folded.aggregates[0, 4:].tolist() == [1, 1, 1, 1]

    async def test_expired_or_unknown_ones_change_nothing(self, state: FeatureState) -> None:
        await state.fold(fold_batch([buy(100), buy(250)]))
        labels = [L(100, ("s",)), L(250, ("other",)), L(249, ("s",))]
        counted = await state.fold_labels(label_batch(labels))
        assert (counted.added, counted.late, counted.expired) == (0, 0, 3)
        folded = await state.fold(fold_batch([buy(221), buy(241)], 2))
        assert folded.aggregates[:, 5].tolist() == [0, 0]

    async def test_corrections_are_differences(self, state: FeatureState) -> None:
        await state.fold(fold_batch([buy(100)]))
        await state.fold_labels(label_batch([L(100, ("s",), 1.0)]))
        await state.fold_labels(label_batch([L(100, ("s",), -1.0)], 1))
        await state.fold_labels(label_batch([L(100, ("s",), 0.3)], 2))
        folded = await state.fold(fold_batch([buy(125)], 1))
        assert folded.aggregates[0, 4:].tolist() == [1, 0.3, 1, 0.3]

    @pytest.mark.parametrize("delta", [1.0, 2.5, 1000.0, -7.0, 1 / 3, 1e12])
    async def test_of_any_size(self, state: FeatureState, delta: Any) -> None:
        await state.fold(fold_batch([buy(100), buy(101)]))
        await state.fold_labels(label_batch([L(100, ("s",), delta), L(101, ("s",), 1.0)]))
        folded = await state.fold(fold_batch([buy(125)], 2))
        np.testing.assert_allclose(folded.aggregates[0, 5], delta + 1.0)

    async def test_replayed_ones_are_added_once(self, state: FeatureState) -> None:
        await state.fold(fold_batch([buy(100), buy(101)]))
        labels = [L(100, ("s",)), L(101, ("s",))]
        await state.fold_labels(label_batch(labels[:1], 10))
        counted = await state.fold_labels(label_batch(labels, 10))
        assert (counted.added, counted.late, counted.expired) == (1, 0, 0)
        counted = await state.fold_labels(label_batch(labels, 10))
        assert (counted.added, counted.late, counted.expired) == (0, 0, 0)
        folded = await state.fold(fold_batch([buy(125)], 2))
        assert folded.aggregates[0, 5] == 2
        assert await label_fence(state, 0) == 12

    async def test_fences_are_per_partition_and_stream(self, state: FeatureState) -> None:
        await state.fold(fold_batch([buy(100)]))
        batch = label_batch([L(100, ("s",))], 5)
        for other in (batch, replace(batch, partition=1), replace(batch, stream="served")):
            assert (await state.fold_labels(other)).added == 1
        assert await label_fence(state, 1) == 6
        assert await label_fence(state, 0, "served") == 6
        assert await label_fence(state, 2) == 0
        folded = await state.fold(fold_batch([buy(125)], 1))
        assert folded.aggregates[0, 5] == 3

    async def test_a_state_that_is_behind_refuses_them(self, state: FeatureState) -> None:
        await state.fold(fold_batch([buy(100)]))
        noted = replace(label_batch([L(100, ("s",))]), note=b"one")
        assert await state.label_note(0) == b""
        await state.fold_labels(noted)
        with pytest.raises(StateBehind, match="ends at offset 1, expected 5") as caught:
            await state.fold_labels(replace(label_batch([L(100, ("s",))], 6), first=5))
        assert caught.value.folded == 1
        assert (await label_fence(state, 0), await state.label_note(0)) == (1, b"one")
        await state.fold_labels(replace(noted, first=1, note=b"again"))
        assert await state.label_note(0) == b"one"
        more = replace(label_batch([L(100, ("s",))], 1), first=1, note=b"two")
        assert (await state.fold_labels(more)).added == 1
        assert (await label_fence(state, 0), await state.label_note(0)) == (2, b"two")

    async def test_of_events_of_one_second(self, state: FeatureState) -> None:
        events = [buy(100, id=1), buy(100, id=2), buy(100, id=3)]
        await state.fold(fold_batch(events))
        await state.fold_labels(label_batch([L(100, ("s",)), L(100, ("s",))]))
        folded = await state.fold(fold_batch([buy(125)], 3))
        assert folded.aggregates[0, 4:].tolist() == [3, 2, 3, 2]

    async def test_reach_every_labelled_entity_of_an_event(self, make: Make) -> None:
        card = replace(CARD, labels=True, label_age=0)
        plan = FoldPlan((card, SHOP))
        state = await make(plan)
        await state.fold(fold_batch([buy(100)]))
        counted = await state.fold_labels(label_batch([L(100, ("c", "s"))]))
        assert (counted.added, counted.late, counted.expired) == (0, 1, 0)
        folded = await state.fold(fold_batch([buy(121)], 1))
        assert folded.aggregates[0].tolist() == [1, 1, 0, 2, 2, 1, 1, 1, 1, 1]

    async def test_none_at_all(self, state: FeatureState) -> None:
        batch = replace(label_batch([], 5), entities=[[]])
        counted = await state.fold_labels(batch)
        assert (counted.added, counted.late, counted.expired) == (0, 0, 0)
        assert await label_fence(state, 0) == 5


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_an_entity_that_has_too_many_events_keeps_its_latest(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other event is out of order, as events of two partitions are."""
    most, left = 640, 560
    state: FeatureState
    if kind == "memory":
        monkeypatch.setattr(memory_state, "MOST_EVENTS", most)
        monkeypatch.setattr(memory_state, "LEFT_EVENTS", left)
        state = MemoryFeatureState(PLAN)
    else:
        server: Valkey = request.getfixturevalue("valkey")
        state = await RedisFeatureState.connect(
            server.url, next(names), PLAN, library=Library.of(most, left)
        )
    total, size, kept, wanted = 3 * most, 50, 0, list[int]()
    for _ in range(total):
        kept += 1
        wanted.append(kept)
        kept = left if kept > most else kept
    found: list[float] = []
    for first in range(0, total, size):
        count = min(size, total - first)
        events = [buy(1000 - (first + i) % 2, card="hot", id=first + i) for i in range(count)]
        folded = await state.fold(fold_batch(events, first, committed=first))
        found += folded.aggregates[:, 2].tolist()  # count over 100 s; one over 10 s is the first
        assert (folded.aggregates[:, 3] == folded.aggregates[:, 2]).all()
        assert not folded.duplicate.any()
    # an event that is out of order does not see those that are later than it
    assert found[0::2] == [float(n) for n in wanted[0::2]]
    assert max(found[1::2]) <= most
    await state.close()
