"""How many workers there should be: the number, its bounds, and when nothing is changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.spec import Scale
from workers.resources.decision import (
    SETTLE_SECONDS,
    Measured,
    ScalingDecision,
    ScalingHistory,
    Servers,
    TritonUse,
    decide,
    needed,
)

POLICY = Scale(min=1, max=8, catch_up="60s", use=0.7, idle="10m")
NOW = 10_000.0


def measured(
    arrival: float, backlog: float = 0.0, workers: int = 1, partitions: int = 8, rate: float = 1000
) -> Measured:
    """Spread evenly over partitions."""
    each = range(partitions)
    return Measured(
        workers,
        dict.fromkeys(each, arrival / partitions),
        dict.fromkeys(each, backlog / partitions),
        rate,
    )


def decided(
    found: Measured, policy: Scale = POLICY, history: ScalingHistory | None = None
) -> ScalingDecision:
    """The first decision since long."""
    history = history or ScalingHistory()
    seen = history.seen(NOW, needed(policy, found).workers, policy.idle_seconds)
    return decide(policy, found, seen, NOW)


@pytest.mark.parametrize(
    ("arrival", "backlog", "workers"),
    [
        pytest.param(0, 0, 1, id="nothing arrives"),
        pytest.param(700, 0, 1, id="one is used as it should be"),
        pytest.param(701, 0, 2, id="and no further"),
        pytest.param(2_100, 0, 3, id="three"),
        pytest.param(600, 6_000, 1, id="a backlog that its spare time takes away"),
        pytest.param(600, 60_000, 3, id="a backlog that is to be gone in a minute"),
        pytest.param(90_000, 0, 8, id="the policy's most"),
    ],
)
def test_as_many_as_arrivals_and_backlog_ask_for(
    arrival: float, backlog: float, workers: int
) -> None:
    assert needed(POLICY, measured(arrival, backlog)).workers == workers


def test_no_more_than_partitions_and_it_is_said() -> None:
    found = decided(measured(2_900, partitions=4))
    assert found.workers == 4
    assert found.limited == "partitions"
    assert "one for each partition" in found.reason
    found = decided(measured(9_000, workers=8, partitions=10))
    assert (found.workers, found.limited) == (8, "max")
    assert "13 are asked for (max=8)" in found.reason
    found = decided(measured(9_000, workers=8))  # each partition asks for more than a worker
    assert (found.workers, found.limited) == (8, "partitions")


def test_while_no_worker_was_ever_behind_nothing_changes() -> None:
    assert decided(measured(5_000, 10.0, workers=2, rate=0.0)).workers == 2
    assert decided(measured(5_000, workers=1, rate=0.0), Scale(min=2)).workers == 2


def test_one_decision_at_a_time() -> None:
    found = measured(5_000)
    for since, workers in ((SETTLE_SECONDS - 1, 1), (SETTLE_SECONDS, 8)):
        assert decided(found, history=ScalingHistory(decided=NOW - since)).workers == workers


def quiet(since: float, peak_at: float, peak: int) -> ScalingHistory:
    """Little was needed since long, but for one peak."""
    history = ScalingHistory()
    for at in range(int(NOW - since), int(NOW), 10):
        history = history.seen(float(at), peak if at == NOW - peak_at else 1, POLICY.idle_seconds)
    return history


@pytest.mark.parametrize(
    ("history", "workers"),
    [
        pytest.param(quiet(600, 500, 1), 4, id="not known for long enough"),
        pytest.param(quiet(700, 500, 4), 4, id="all were needed lately"),
        pytest.param(quiet(700, 500, 3), 3, id="three were needed lately"),
        pytest.param(quiet(900, 700, 4), 1, id="one would have done all the time"),
    ],
)
def test_workers_go_once_fewer_would_have_done(history: ScalingHistory, workers: int) -> None:
    found = decided(measured(100, workers=4), history=history)
    assert found.workers == workers
    assert workers == 4 or "would do for 10m now" in found.reason


BUSY = TritonUse(0.97, 0.012, 0.010)
CALM = TritonUse(0.4, 0.001, 0.010)


@pytest.mark.parametrize(
    ("servers", "limited", "said"),
    [
        pytest.param(
            Servers({"a:1": BUSY}, waiting=0.8),
            "Triton",
            "instances of policies.infer",
            id="Triton",
        ),
        pytest.param(
            Servers({"a:1": BUSY}, waiting=0.8, cpu=0.95),
            "Triton",
            "no core is left here, name one more in DRIFTLOOP_TRITON, on another machine",
            id="Triton, and the machine",
        ),
        pytest.param(
            Servers({"a:1": TritonUse(0.6, 0.02, 0.01)}, waiting=0.8),
            "Triton",
            "waits 20 ms for 10 ms of work",
            id="requests queue in Triton",
        ),
        pytest.param(Servers(redis=0.95), "Redis", "main thread", id="Redis' thread"),
        pytest.param(Servers(redis_memory=0.96), "Redis", "maxmemory", id="Redis' memory"),
        pytest.param(Servers(cpu=0.97), "this machine", "elsewhere", id="the machine"),
    ],
)
def test_no_worker_is_added_where_a_server_limits(
    servers: Servers, limited: str, said: str
) -> None:
    found = decided(replace(measured(5_000), servers=servers))
    assert (found.workers, found.limited) == (1, limited)
    assert said in found.reason
    assert f"{limited} limits, no worker is added" in found.reason


@pytest.mark.parametrize(
    "servers",
    [
        pytest.param(Servers({"a:1": CALM}, waiting=0.9), id="a slow Triton that takes more"),
        pytest.param(Servers({"a:1": BUSY, "b:1": CALM}, waiting=0.9), id="another one takes more"),
        pytest.param(Servers({"a:1": BUSY}, waiting=0.2), id="workers do not wait for it"),
        pytest.param(Servers({"a:1": TritonUse(0, 0, 0)}, waiting=0.9), id="nobody asks it"),
    ],
)
def test_workers_are_added_where_servers_take_more(servers: Servers) -> None:
    assert decided(replace(measured(5_000), servers=servers)).workers == 8


def test_nothing_is_decided_while_a_server_is_away() -> None:
    found = decided(replace(measured(5_000), servers=Servers(away="Triton")))
    assert found == ScalingDecision(1, "waiting for Triton")


def hot(share: float, rest: float, workers: int) -> Measured:
    """One of eight partitions gets `share` records a second, the others `rest` together."""
    arrivals = {p: share if p == 3 else rest / 7 for p in range(8)}
    return Measured(workers, arrivals, {}, 1000.0)


def test_one_hot_partition_gets_one_worker_and_it_is_said() -> None:
    found = decided(hot(1_500, 200, workers=1))
    assert (found.workers, found.limited) == (1, "partition 3")
    assert "partition 3 alone asks for 1.5 and can have one" in found.reason
    assert needed(POLICY, hot(1_500, 700, 1)).workers == 2  # the others need one of their own
    assert decided(hot(1_500, 700, 2)).workers == 2
    assert needed(POLICY, hot(900, 700, 1)).workers == 4  # not hot, and three would be uneven


@pytest.mark.parametrize(("arrival", "workers"), [(4_100, 6), (5_990, 9), (6_100, 12)])
def test_no_worker_gets_more_partitions_than_it_can_do(arrival: float, workers: int) -> None:
    """Of 12 partitions, 7 to 11 workers leave two to one: once two are too much, only 12 help."""
    policy = Scale(max=20, use=0.7)
    assert needed(policy, measured(arrival, partitions=12)).workers == workers


def test_partitions_that_are_all_behind_get_a_worker_each() -> None:
    assert needed(POLICY, measured(500, 600_000)).workers == 8
