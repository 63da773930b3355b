"""When a candidate is due, and which offsets it learns from: pure, given what has been read.

Everything goes by the event time of matured examples, on a fixed grid (`every` apart from the last
decision), so that a replay of the same topics makes the same candidates from the same offsets. A
drift does not wait for the grid: a candidate is due when labels have matured to the end of the
bucket that drifted. Before that there is nothing to learn of it.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass

from streams.spec import Retrain
from streams.spec.tasks import Task
from workers.examples.index import Index
from workers.examples.reading import OffsetRanges
from workers.training.job import Job
from workers.training.slices import Spans, lacking, slices_at


@dataclass(frozen=True)
class Due:
    """A candidate that should be made now."""

    watermark: float
    """Labels are mature up to this event time."""
    window: OffsetRanges
    slices: Spans


def again(topic: str, job: Job) -> Due:
    """What a job, which names watermark and slices, was made for."""
    assert job.label_watermark is not None
    assert job.slices is not None
    window = OffsetRanges.from_offsets(topic, job.offsets)
    return Due(job.label_watermark, window, Spans.from_manifest(job.slices))


def due(
    policy: Retrain,
    index: Index,
    decided: float,
    expected: Set[int],
    task: Task,
    drifted: float = 0.0,
) -> Due | None:
    """The candidate to make now; None where there is none to make yet.

    `decided` is the label watermark of the last candidate; 0 before the first, which is due `every`
    after the earliest example. `drifted` is the event time at which a bucket that drifted was over;
    0 for none.
    """
    target = _target(policy, index, decided, expected, drifted)
    if target is None:
        return None
    slices = slices_at(policy, target)
    if _lacking(policy, index, slices, task):
        return None
    return Due(target, index.window(slices.train[0], slices.evaluate[1]), slices)


def why_not(
    policy: Retrain,
    index: Index,
    decided: float,
    expected: Set[int],
    task: Task,
    drifted: float = 0.0,
) -> str:
    """What the candidate lacks whose time has come; empty for nothing, and before its time."""
    target = _target(policy, index, decided, expected, drifted)
    return "" if target is None else _lacking(policy, index, slices_at(policy, target), task)


def _target(
    policy: Retrain, index: Index, decided: float, expected: Set[int], drifted: float
) -> float | None:
    """The label watermark of the candidate whose time has come; None where it has not."""
    watermark = index.watermark(expected, idle=policy.window_seconds)
    since = decided or index.earliest
    steps = math.floor((watermark - since) / policy.every_seconds) if watermark > since else 0
    scheduled = since + steps * policy.every_seconds if steps >= 1 else None
    if since < drifted <= watermark:
        return max(drifted, scheduled or drifted)
    return scheduled


def _lacking(policy: Retrain, index: Index, slices: Spans, task: Task) -> str:
    """What there is too little of for a training run (corrections count twice)."""
    spans = (slices.train, slices.validate, slices.evaluate)
    train, validate, evaluate = map(index.labels, spans)
    return lacking(train, validate, evaluate, policy, task)
