"""Instances are raised where Triton limits and a core is left, and lowered when they were idle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.spec import Scale
from workers.resources.decision import ScalingHistory, Servers, TritonUse
from workers.resources.instances import Bounds, decide_instances, needed_instances

POLICY, BOUNDS = Scale(use=0.7, idle="30s"), Bounds(1, 4)


def seen(use: float, waits: float = 0.0, waiting: float = 0.8, cpu: float = 0.3) -> Servers:
    return Servers({"a:1": TritonUse(use, waits, 0.01)}, waiting=waiting, cpu=cpu)


def decided(servers: Servers, current: int, bounds: Bounds = BOUNDS) -> tuple[int, str]:
    history = ScalingHistory().seen(0.0, needed_instances(POLICY, servers, current), 30)
    found = decide_instances(POLICY, bounds, servers, current, history, 100.0)
    return found.workers, found.limited


@pytest.mark.parametrize(
    ("servers", "current", "wanted", "limited"),
    [
        (seen(0.98), 1, 2, ""),
        (seen(0.5, waits=0.05), 2, 3, ""),  # requests wait for as long as they are worked on
        (seen(0.98, cpu=0.95), 1, 1, "this machine"),
        (seen(0.98), 4, 4, "most_instances"),
        (seen(0.98, waiting=0.2), 1, 1, ""),  # workers hardly wait for it
        (seen(0.5), 1, 1, ""),
        (Servers(), 2, 2, ""),
    ],
)
def test_they_are_raised_where_that_helps(
    servers: Servers, current: int, wanted: int, limited: str
) -> None:
    assert decided(servers, current) == (wanted, limited)


def test_they_are_lowered_once_fewer_would_have_been_enough_for_long() -> None:
    history, current, changes = ScalingHistory(), 4, list[tuple[float, int]]()
    for step in range(80):
        now, servers = float(step), seen(0.2)
        history = history.seen(now, needed_instances(POLICY, servers, current), 30)
        found = decide_instances(POLICY, BOUNDS, servers, current, history, now)
        if found.workers != current:
            current, history = found.workers, history.acted(now)
            changes.append((now, current))
    assert changes == [(36.0, 2), (72.0, 1)]


def test_one_decision_at_a_time_and_none_while_a_server_is_away() -> None:
    just = ScalingHistory().seen(0.0, 2, 30).acted(90.0)
    assert decide_instances(POLICY, BOUNDS, seen(0.99), 1, just, 100.0).workers == 1
    assert decide_instances(POLICY, BOUNDS, seen(0.99), 1, just, 111.0).workers == 2
    idle = ScalingHistory().seen(0.0, 1, 30).seen(100.0, 1, 30)
    away = Servers({"a:1": TritonUse(0.0, 0.0, 0.0)}, away="Triton")
    assert decide_instances(POLICY, BOUNDS, away, 4, idle, 100.0).workers == 4
    assert decide_instances(POLICY, BOUNDS, replace(away, away=""), 4, idle, 100.0).workers == 1
    refuses = Servers({"a:1": TritonUse(0.99, 0.0, 0.01)}, waiting=0.9, away="Triton")
    assert decided(refuses, 1) == (2, "")
