"""Which faults come, in which order and how far apart: a pure function of a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """What can happen to the system."""

    score_kill = "score-kill"
    """SIGKILL of a scoring worker."""
    score_stop = "score-stop"
    """A scoring worker is stopped until another has its partitions, then goes on: a zombie."""
    rebalance = "rebalance"
    """A scoring worker joins, and leaves again (SIGTERM)."""
    label_kill = "label-kill"
    label_stop = "label-stop"
    evaluate_kill = "evaluate-kill"
    evaluate_stop = "evaluate-stop"
    trainer_kill = "trainer-kill"
    trainer_stop = "trainer-stop"
    scale_kill = "scale-kill"
    """SIGKILL of the scaler, which says how many workers are wanted."""
    resize_kill = "resize-kill"
    """SIGKILL of who changes the number of a model's instances, on the way."""
    up_kill = "up-kill"
    """SIGKILL of a second `driftloop up` while it starts and stops scoring workers."""
    triton_kill = "triton-kill"
    stub_kill = "stub-kill"
    """SIGKILL of one of Triton's Python processes, which Triton does not start again."""
    redis_kill = "redis-kill"
    redis_rewind = "redis-rewind"
    """SIGKILL of Redis, and what it wrote in its last second is cut off its file."""
    redis_flush = "redis-flush"
    """Redis is emptied, as one that is replaced by another is."""
    redis_full = "redis-full"
    """Redis has no memory left, and refuses writes, for a while."""
    redis_evicts = "redis-evicts"
    """Redis is told that it may drop keys, until the workers have said so."""
    clock_skew = "clock-skew"
    """A worker whose clock is wrong joins, and leaves again."""
    partitions = "partitions"
    """The events topic gets a partition more."""
    label_flood = "label-flood"
    """Thousands of labels at once for events that nobody sent."""
    trim = "trim"
    """Retention deletes what no window of the events topic needs any more."""
    kafka_kill = "kafka-kill"
    publish = "publish"
    """A new model version is loaded and promoted."""
    after_fold = "after-fold"
    """A scoring worker kills itself at a named point, as the following do."""
    after_inference = "after-inference"
    after_produce = "after-produce"
    before_commit = "before-commit"
    in_commit = "in-commit"
    """Between the outputs (and, in a transaction, the offsets) and the commit's last step."""
    commit_sent = "commit-sent"
    """The commit's last request is under way, its answer is not in."""


POINTS = frozenset(
    {
        Kind.after_fold,
        Kind.after_inference,
        Kind.after_produce,
        Kind.before_commit,
        Kind.in_commit,
        Kind.commit_sent,
    }
)

ROUND = (*Kind, Kind.score_kill)
"""Every kind once, and the most common crash of all twice."""


@dataclass(frozen=True)
class Fault:
    """One fault of a schedule."""

    kind: Kind
    pause: float
    """Seconds of undisturbed work before it."""
    lasts: float
    """Seconds that a process stays stopped, that a guest stays, or that memory stays full."""
    passes: int
    """At a named point: how often the point is passed before the kill."""


def schedule(
    seed: int, count: int, session: float = 6.0, kinds: Sequence[Kind] = ROUND
) -> list[Fault]:
    """`count` faults: rounds in which each of `kinds` appears, each round in an order of its own.

    `session` is the group's session timeout in seconds: a stopped process stays so for longer.
    """
    random = Random(seed)
    order: list[Kind] = []
    while len(order) < count:
        order += random.sample(kinds, len(kinds))
    return [_fault(kind, random, session) for kind in order[:count]]


def _fault(kind: Kind, random: Random, session: float) -> Fault:
    stopped = random.uniform(session + 0.5, session + 2.5)
    return Fault(
        kind=kind,
        pause=round(random.uniform(0.2, 2.0), 2),
        lasts=round(random.uniform(0.5, 3.0) if kind is Kind.rebalance else stopped, 2),
        passes=random.randint(3, 30),
    )
