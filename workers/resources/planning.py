"""What a load would take: workers, Tritons, memory and money, from what was measured. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streams.spec import Pipeline
from streams.spec.windows import KeyPlan
from workers.resources.decision import Measured, needed

_SHORT_TIMES = 97 * 86_400
"""Events that are kept for so many seconds have times of 3 bytes, else of 4."""
_VALUE = 4
"""Bytes of a summed value, at most, while all are whole hundredths."""
_ID = 8
_SCANNED = 8
"""Bytes of a value that is kept for scans."""
_DAY = 86_400


@dataclass(frozen=True)
class Costing:
    """What a plan is made from: measured, or given."""

    rate: float
    """Events that a worker does in a busy second, above 0."""
    source: str
    """How that is known."""
    triton_seconds: float = 0.0
    """Seconds of one of Triton's instances for an event; 0 where nobody has measured it."""
    per_million: float | None = None
    """What a million predictions cost in serving; None where that is not known."""


@dataclass(frozen=True)
class CapacityPlan:
    """What so many events a second would take."""

    events_per_second: float
    rate: float
    """Events that a worker does in a busy second."""
    source: str
    """How that is known."""
    workers: int
    """Scoring workers, so that each is busy for the policy's `use` of its time."""
    partitions: int
    """Fewest partitions of the events' topic: one for each worker."""
    above_max: bool
    """Whether these are more workers than the policy's `max`."""
    triton_instances: int | None
    """Instances over all Tritons, used as much; None where nobody has measured what one does."""
    redis_bytes: int
    """Redis's memory for the events that windows count and the ids that are remembered, once they
    are full; entities' names and Redis's own bookkeeping come on top."""
    cost_per_day: float | None
    """What serving would cost on a day, by what it costs now; None where that is not known."""


def plan(pipeline: Pipeline, events_per_second: float, known: Costing) -> CapacityPlan:
    """What a load takes that is spread evenly."""
    policy = pipeline.policies.scale
    even = Measured(1, {0: events_per_second}, {}, known.rate)
    asked = max(1, needed(policy, even).asked)
    instances = math.ceil(events_per_second * known.triton_seconds / policy.use - 1e-9)
    each = known.per_million
    return CapacityPlan(
        events_per_second,
        known.rate,
        known.source,
        max(policy.min, asked),
        max(policy.min, asked),
        asked > policy.max,
        max(1, instances) if known.triton_seconds else None,
        round(events_per_second * sum(_bytes(key) for key in pipeline.plan.keys)),
        None if each is None else events_per_second * _DAY * each / 1e6,
    )


def _bytes(key: KeyPlan) -> int:
    """Bytes that one event a second takes in the end (`feature_state.lua` has the layout)."""
    if not key.kept:
        return 0
    entry = (3 if key.kept <= _SHORT_TIMES else 4) + _VALUE * key.columns
    entry += _SCANNED * len(key.scanned)
    return key.kept * entry + key.remember * _ID
