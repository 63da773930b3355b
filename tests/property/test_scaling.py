"""Whatever the load: the decision stays within its bounds, follows the load, and comes to rest."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from streams.spec import Scale
from workers.resources.decision import SETTLE_SECONDS, Measured, ScalingHistory, decide, needed

rates = st.floats(0.0, 1e6)
loads = st.dictionaries(st.integers(0, 63), rates, min_size=1, max_size=64)


@st.composite
def policies(draw: st.DrawFn) -> Scale:
    least = draw(st.integers(1, 10))
    return Scale(
        least,
        draw(st.integers(least, 40)),
        f"{draw(st.integers(1, 600))}s",
        draw(st.floats(0.05, 1.0)),
        f"{draw(st.integers(1, 100))}s",
    )


@given(policies(), loads, rates, rates, st.integers(1, 60))
@example(Scale(1, 1, "1s", 0.5, "1s"), {0: 0.0}, 1.0, 5e-324, 1)  # its half is 0
@example(Scale(1, 1, "1s", 0.5, "1s"), {0: 0.0}, 0.0, 5e-324, 1)
def test_the_number_is_within_its_bounds(
    policy: Scale, arrivals: dict[int, float], backlog: float, rate: float, workers: int
) -> None:
    found = Measured(workers, arrivals, dict.fromkeys(arrivals, backlog), rate)
    want = needed(policy, found)
    assert policy.min <= want.workers <= policy.max
    assert want.workers <= max(policy.min, len(arrivals))
    assert set(want.hot) <= set(arrivals)
    history = ScalingHistory().seen(0.0, want.workers, policy.idle_seconds)
    decision = decide(policy, found, history, 0.0)
    assert decision.workers in (workers, want.workers)
    assert decision.reason


@given(policies(), st.floats(1.0, 1e5), st.floats(0.0, 1e5), st.floats(0.0, 1e5))
def test_more_load_never_asks_for_fewer(
    policy: Scale, rate: float, load: float, more: float
) -> None:
    def asked(total: float) -> int:
        return needed(policy, Measured(1, dict.fromkeys(range(40), total / 40), {}, rate)).workers

    assert asked(load) <= asked(load + more)


@given(policies(), st.floats(100.0, 1e5), st.floats(0.0, 1e4))
def test_evenly_spread_load_is_used_as_the_policy_says(
    policy: Scale, rate: float, load: float
) -> None:
    """No partition is hot: the number is the formula's, and one fewer would be used too much."""
    partitions = 2 + math.ceil(load / rate)
    arrivals = dict.fromkeys(range(partitions), load / partitions)
    asked = needed(policy, Measured(1, arrivals, {}, rate)).asked
    assert (asked + 1e-8) * rate * policy.use >= load * (1 - 1e-6)
    assert asked == 0 or (asked - 1) * rate * policy.use <= load * (1 + 1e-6)


@given(policies(), st.lists(st.floats(0.0, 5e3), min_size=5, max_size=40), st.integers(1, 5))
def test_decisions_keep_their_distance_and_constant_load_brings_one_of_each(
    policy: Scale, loads: list[float], partitions: int
) -> None:
    workers, history, changed = policy.min, ScalingHistory(), list[float]()
    for i, load in enumerate(loads + [loads[-1]] * 300):
        now = 7.0 * i
        arrivals = dict.fromkeys(range(partitions), load / partitions)
        found = Measured(workers, arrivals, {}, 1000.0)
        history = history.seen(now, needed(policy, found).workers, policy.idle_seconds)
        if (decision := decide(policy, found, history, now)).workers != workers:
            workers, history = decision.workers, history.acted(now)
            changed.append(now)
    assert all(b - a >= SETTLE_SECONDS for a, b in pairwise(changed))
    assert workers == needed(policy, found).workers  # it has come to rest
    late = [at for at in changed if at > 7.0 * len(loads) + policy.idle_seconds + 60]
    assert not late
