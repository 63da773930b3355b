"""How many workers there should be: pure. The load, the history and the policy in, a decision out.

The number is DS2's (Kalavri et al., "Three steps is all you need", OSDI 2018), with the backlog
added to what arrives: ceil((arrival + backlog / catch-up time) / (true rate * use)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from streams.spec import Scale

SETTLE_SECONDS = 20.0
"""Least time between two decisions: a worker starts, and rates are taken with it."""
_FALLING_SECONDS = 6.0
"""Rates are means: a load that falls at once seems to fall for so long. One decision is enough."""
FULL = 0.9
"""A server whose share of time at work is above takes hardly more."""
_WAITING = 0.5
"""Workers that spend so much of their busy time on Triton wait for it."""
HERE = "this machine"
MORE = "name one more in DRIFTLOOP_TRITON"
ELSEWHERE = f"{MORE}, on another machine"
_ROUNDING = 1e-9
_MANY = 1e6
_SLOWEST = 1e-3
"""Records a second: a worker that does fewer has not been measured."""


class TritonUse(NamedTuple):
    """How loaded a Triton is, for the version that is used most there."""

    use: float
    """Share of its instances that work."""
    queue_seconds: float
    """Mean time that a request waits."""
    compute_seconds: float
    """Mean time that a request is worked on."""

    @property
    def full(self) -> bool:
        """Whether it takes hardly more: it always works, or requests wait as long as they last."""
        return self.use >= FULL or self.queue_seconds >= max(self.compute_seconds, 1e-3)


@dataclass(frozen=True)
class Servers:
    """How loaded what the workers share is."""

    triton: Mapping[str, TritonUse] = field(default_factory=dict)
    """By endpoint."""
    waiting: float = 0.0
    """Share of the workers' busy time that went into requests to Triton."""
    redis: float = 0.0
    """Share of the time that Redis's main thread works."""
    redis_memory: float = 0.0
    """Share of its memory that Redis uses; 0 where it has no limit."""
    cpu: float = 0.0
    """Share of this machine's cores that our processes use."""
    away: str = ""
    """What workers wait for because it does not answer; empty for nothing."""


@dataclass(frozen=True)
class Measured:
    """The load of the workers of a kind, over some seconds."""

    workers: int
    """How many there are."""
    arrivals: Mapping[int, float]
    """Records that arrive a second, by partition."""
    backlog: Mapping[int, float]
    """Records that wait, by partition."""
    rate: float
    """Records that a worker does in a busy second; 0 while no worker has ever been behind."""
    busy: float = 0.0
    """Mean share of the time that workers were busy."""
    servers: Servers = field(default_factory=Servers)

    @property
    def arrival(self) -> float:
        """Records that arrive a second."""
        return sum(self.arrivals.values())

    def demand(self, partition: int, catch_up: float) -> float:
        """Records a second that a partition asks for, its backlog being gone in `catch_up`."""
        return self.arrivals[partition] + self.backlog.get(partition, 0.0) / catch_up


class Needed(NamedTuple):
    """How many workers the load asks for."""

    workers: int
    """Within the policy's bounds, and not more than partitions."""
    asked: int
    """Were each partition's load to be shared, and without bounds."""
    hot: tuple[int, ...]
    """Partitions that ask for more than a whole worker: more workers do not help them."""


class ScalingDecision(NamedTuple):
    """How many workers there are to be, and why."""

    workers: int
    reason: str
    limited: str = ""
    """What keeps the number below what the load asks for; empty for nothing."""


class Limit(NamedTuple):
    """What limits the workers, though they are busy."""

    name: str
    reason: str
    """What is full, and how to mend it."""


@dataclass(frozen=True)
class ScalingHistory:
    """What is remembered of earlier readings, times in seconds."""

    since: float = math.inf
    """When the first reading was."""
    decided: float = -math.inf
    """When workers were last added or taken away."""
    peaks: tuple[tuple[float, int], ...] = ()
    """Times and workers needed, of the latest seconds: only those that exceed all later ones."""

    def seen(self, now: float, workers: int, idle: float) -> ScalingHistory:
        """With a reading that asks for so many workers; what is older is forgotten."""
        oldest = now - idle - _FALLING_SECONDS
        kept = [one for one in self.peaks if one[0] > oldest and one[1] > workers]
        return replace(self, since=min(self.since, now), peaks=(*kept, (now, workers)))

    def acted(self, now: float) -> ScalingHistory:
        """After a decision that changes something."""
        return replace(self, decided=now)

    def enough(self, now: float, idle: float, current: int) -> int:
        """How many workers would have been enough for `idle` seconds, and some before them.

        While fewer than `current` would not, or that is not known for so long: `current`.
        """
        known = now - self.since >= idle + _FALLING_SECONDS
        if not known or not self.peaks or self.peaks[0][1] >= current:
            return current
        return max(workers for at, workers in self.peaks if at > now - idle)


def needed(policy: Scale, measured: Measured) -> Needed:
    """How many workers the load asks for; none where nothing arrives and nothing waits.

    While the rate is not known: as many as there are, one at least.
    """
    demands = {p: measured.demand(p, policy.catch_up_seconds) for p in measured.arrivals}
    if measured.rate < _SLOWEST:
        unknown = max(1, measured.workers) if any(demands.values()) else 0
        return Needed(_bounded(policy, measured, unknown), unknown, ())
    hot = tuple(sorted(p for p, demand in demands.items() if demand > measured.rate))
    rest = sum(demand for demand in demands.values() if demand <= measured.rate)
    spare = (1 - policy.use) * measured.rate * len(hot)
    each = policy.use * measured.rate
    others = 0 if hot and rest <= spare else _ceil(rest / each)
    total = sum(demands.values())
    workers = _bounded(policy, measured, max(len(hot) + others, 1 if total else 0))
    most = _bounded(policy, measured, len(demands))
    while 0 < workers < most and _uneven(demands, workers, measured.rate):
        workers += 1
    return Needed(workers, _ceil(total / each), hot)


def _uneven(demands: Mapping[int, float], workers: int, rate: float) -> bool:
    """Whether so many workers would leave one with partitions that are too much for it together.

    A hot partition would be too much alone. They are shared out as Kafka's range assignor does.
    """
    ordered = [demands[p] for p in sorted(demands)]
    fewest, more = divmod(len(ordered), workers)
    start = 0
    for number in range(workers):
        share = ordered[start : start + fewest + (number < more)]
        start += len(share)
        if len(share) > 1 and max(share) <= rate < sum(share):
            return True
    return False


def decide(
    policy: Scale, measured: Measured, history: ScalingHistory, now: float
) -> ScalingDecision:
    """How many workers there are to be; `history` has this reading already.

    At most one decision in `SETTLE_SECONDS` changes something; where there is no worker, one comes
    at once when there is work. None is added where a server is what
    limits, or where nobody answers; none goes unless fewer would have been enough all `idle` long.
    """
    current = measured.workers
    if measured.servers.away:
        return ScalingDecision(current, f"waiting for {measured.servers.away}")
    if current and now - history.decided < SETTLE_SECONDS:
        return ScalingDecision(current, "settling")
    want = needed(policy, measured)
    limited, bound = _bound(policy, measured, want)
    if want.workers > current:
        # nobody has seen the servers where there is no worker
        if current and (limit := limits(measured.servers)):
            return ScalingDecision(current, limit.reason, limit.name)
        return ScalingDecision(want.workers, _load(measured) + bound, limited)
    enough = history.enough(now, policy.idle_seconds, current)
    if enough < current:
        return ScalingDecision(
            enough, f"{_load(measured)}; {enough} would do for {policy.idle} now"
        )
    return ScalingDecision(current, _load(measured) + bound, limited)


def limits(servers: Servers) -> Limit | None:
    """What limits the workers, though they are busy; None for nothing."""
    full = {address: one for address, one in servers.triton.items() if one.full}
    if full and len(full) == len(servers.triton) and servers.waiting >= _WAITING:
        address, one = max(full.items(), key=lambda item: item[1].use)
        room = f"raise the instances of policies.infer, or {MORE}"
        mend = room if servers.cpu < FULL else f"no core is left here, {ELSEWHERE}"
        return Limit(
            "Triton",
            f"Triton limits, no worker is added: at {address} instances work {one.use:.0%} of the "
            f"time and a request waits {_ms(one.queue_seconds)} for {_ms(one.compute_seconds)} of "
            f"work - {mend}",
        )
    for name, used, what, mend in (
        ("Redis", servers.redis, "its main thread works {} of the time", "give it a faster core"),
        ("Redis", servers.redis_memory, "{} of its memory is used", "raise its maxmemory"),
        (
            HERE,
            servers.cpu,
            "we use {} of its cores",
            "run workers elsewhere (`driftloop score`)",
        ),
    ):
        if used >= FULL:
            full_of = what.format(f"{used:.0%}")
            return Limit(name, f"{name} limits, no worker is added: {full_of} - {mend}")
    return None


def _bounded(policy: Scale, measured: Measured, workers: int) -> int:
    most = min(policy.max, max(1, len(measured.arrivals)))
    return max(policy.min, min(workers, most))


def _load(measured: Measured) -> str:
    behind = sum(measured.backlog.values())
    waits = f", {behind:,.0f} wait" if behind >= max(1.0, measured.arrival) else ""
    can = f", a worker does {measured.rate:,.0f}" if measured.rate else ""
    return f"{measured.arrival:,.0f} a second{waits}{can}"


def _bound(policy: Scale, measured: Measured, want: Needed) -> tuple[str, str]:
    """What keeps the number below what is asked for, and what is said of it; empty for nothing."""
    if want.asked <= want.workers:
        return "", ""
    if want.workers >= len(measured.arrivals):
        limited, why = "partitions", "one for each partition: more of them let it go further"
    elif want.workers >= policy.max:
        limited, why = "max", f"max={policy.max}"
    else:
        worst = max(want.hot, key=lambda p: measured.demand(p, policy.catch_up_seconds))
        limited = f"partition {worst}"
        share = measured.demand(worst, policy.catch_up_seconds) / measured.rate
        why = (
            f"{limited} alone asks for {share:.1f} and can have one, more do not help: spread its "
            "keys, or give the topic more partitions"
        )
    return limited, f"; {want.asked} are asked for ({why})"


def _ceil(workers: float) -> int:
    return math.ceil(min(workers, _MANY) - _ROUNDING)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
