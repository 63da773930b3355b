"""What a load would take: workers, partitions and memory, from what a worker can do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from streams.spec import Pipeline
from streams.spec.windows import KeyPlan
from workers.resources.decision import Measured, needed

_SHORT_TIMES = 97 * 86_400
"""Events that are kept for so many seconds have times of 3 bytes, else of 4."""
_VALUE = 4
"""Bytes of a summed value, at most, while all are whole hundredths."""
_ID = 8


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
    redis_bytes: int
    """Redis's memory for the events that windows count and the ids that are remembered, once they
    are full; entities' names and Redis's own bookkeeping come on top."""


def plan(pipeline: Pipeline, events_per_second: float, rate: float, source: str) -> CapacityPlan:
    """What a load takes that is spread evenly; `rate` is a worker's, above 0."""
    policy = pipeline.policies.scale
    even = Measured(1, {0: events_per_second}, {}, rate)
    asked = max(1, needed(policy, even).asked)
    return CapacityPlan(
        events_per_second,
        rate,
        source,
        max(policy.min, asked),
        max(policy.min, asked),
        asked > policy.max,
        round(events_per_second * sum(_bytes(key) for key in pipeline.plan.keys)),
    )


def _bytes(key: KeyPlan) -> int:
    """Bytes that one event a second takes in the end (`feature_state.lua` has the layout)."""
    if not key.kept:
        return 0
    columns = len(key.values) + int(key.labels)
    entry = (3 if key.kept <= _SHORT_TIMES else 4) + _VALUE * columns
    return key.kept * entry + key.remember * _ID
