"""How many instances of a version each Triton runs: pure, as `decision` is for workers."""

from __future__ import annotations

import math
from typing import NamedTuple

from streams.spec import Scale
from workers.resources.decision import (
    ELSEWHERE,
    FULL,
    HERE,
    MORE,
    SETTLE_SECONDS,
    ScalingDecision,
    ScalingHistory,
    Servers,
    limits,
)


class Bounds(NamedTuple):
    """Fewest and most instances of a version."""

    least: int
    most: int


def needed_instances(policy: Scale, servers: Servers, current: int) -> int:
    """So many that they would be used as the policy says; one more at least where Triton limits."""
    use = max((one.use for one in servers.triton.values()), default=0.0)
    asked = math.ceil(use * current / policy.use - 1e-9)
    limit = limits(servers)
    return max(1, asked, current + 1 if limit is not None and limit.name == "Triton" else 0)


def decide_instances(
    policy: Scale,
    bounds: Bounds,
    servers: Servers,
    current: int,
    history: ScalingHistory,
    now: float,
) -> ScalingDecision:
    """How many instances there are to be; `history` has this reading already.

    None is added where the machine that we see has no core to spare: it would take another's time.
    One that is full is not away, though workers repeat what it refuses; one that is shows no load.
    """
    if not servers.triton or now - history.decided < SETTLE_SECONDS:
        return ScalingDecision(current, "settling")
    use = max(one.use for one in servers.triton.values())
    said = f"they work {use:.0%} of the time"
    limit = limits(servers)
    if limit is None or limit.name != "Triton":
        if servers.away:
            return ScalingDecision(current, f"waiting for {servers.away}")
        enough = max(bounds.least, history.enough(now, policy.idle_seconds, current))
        return ScalingDecision(min(enough, current), said)
    if servers.cpu >= FULL:
        return ScalingDecision(
            current, f"Triton limits and no core is left here for more of them - {ELSEWHERE}", HERE
        )
    want = min(bounds.most, needed_instances(policy, servers, current))
    if want > current:
        return ScalingDecision(want, f"{said}, and requests wait")
    return ScalingDecision(current, f"{said} - raise most_instances, or {MORE}", "most_instances")
