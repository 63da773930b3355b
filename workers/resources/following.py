"""Follows the load of one kind of workers, wherever they run: reads, decides, has it done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from streams.kafka.offsets import OffsetsClient
from streams.kafka.topics import group_id, topics_read
from streams.spec import Pipeline, Scale
from workers.resources.decision import (
    Measured,
    ScalingDecision,
    ScalingHistory,
    Servers,
    decide,
    needed,
)
from workers.resources.meter import LoadMeter, LoadReading
from workers.resources.samples import Rows, retried, servers, worker_counts

_CALLED = {"score": "workers", "label": "labellers", "evaluate": "evaluators", "shadow": "shadows"}
_SERVER = {"infer": "Triton", "fold": "Redis", "topics": "Kafka", "connect": "a server"}
"""What workers wait for where they repeat a stage."""


class Fleet(Protocol):
    """The workers of a pipeline."""

    def shown(self, role: str) -> Mapping[str, Rows]:
        """The numbers of each worker of a role that shows some, by its name."""
        ...

    async def cpu(self) -> float:
        """The share of what limits them all, this machine's cores, that is used; 0 elsewhere."""
        ...

    async def resize(self, role: str, before: int, after: int) -> None:
        """Start or stop workers of a role; who is stopped finishes what it has in hand."""
        ...


def roles_of(pipeline: Pipeline) -> tuple[str, ...]:
    """Whose workers share partitions; shadows run where versions are rolled out by degrees."""
    shadows = ("shadow",) if pipeline.policies.rollout.gradual else ()
    return ("score", "label", "evaluate", *shadows)


def policy_of(role: str, scale: Scale) -> Scale:
    """What holds for workers of a role: `min` is of those that score.

    A labeller stays where the others go: label windows end by the clock.
    """
    match role:
        case "score":
            return scale
        case "label":
            return replace(scale, min=1)
        case _:
            return replace(scale, min=min(1, scale.min))


class RoleScaling:
    """Decides how many workers of a role there are."""

    def __init__(self, pipeline: Pipeline, role: str, fleet: Fleet, workers: int) -> None:
        """There are so many workers now."""
        self.role = role
        self.workers = workers
        self._policy = policy_of(role, pipeline.policies.scale)
        self._topics = topics_read(pipeline, role)
        self._group = group_id(pipeline.name, role)
        self._fleet = fleet
        self._meter = LoadMeter()
        self._history = ScalingHistory()
        self._retried: dict[str, float] = {}
        self._limited = ""
        self.servers = Servers()
        """How loaded they were at the last look."""
        self.news = ""
        """What the last look changed, or found to limit the workers; empty for nothing."""

    def __str__(self) -> str:
        return f"{_CALLED[self.role]} {self.workers}"

    async def look(self, asked: OffsetsClient) -> ScalingDecision | None:
        """Take a reading, decide, and carry it out; None while too little is known.

        Raises `Unavailable`: Kafka is away, nothing is decided.
        """
        self.news = ""
        measured = self._meter.take(await self._read(asked), self.workers)
        return None if measured is None else await self._decide(measured)

    async def _read(self, asked: OffsetsClient) -> LoadReading:
        ends, committed, partitions = Counter[int](), Counter[int](), 0
        for topic in self._topics:
            written = await asked.ends(topic)
            done = await asked.committed(self._group, topic, written)
            ends.update(written)
            committed.update({p: at or 0 for p, at in done.items()})
            partitions += len(written)
        workers = self._fleet.shown(self.role)
        counts = {name: worker_counts(rows) for name, rows in workers.items()}
        now = retried(workers.values())
        waits = [_SERVER.get(s, s) for s, n in now.items() if n > self._retried.get(s, 0.0)]
        self._retried = now
        seen = replace(
            servers(workers.values()), cpu=await self._fleet.cpu(), away="".join(waits[:1])
        )
        return LoadReading(time.monotonic(), counts, ends, committed, seen, partitions)

    async def _decide(self, measured: Measured) -> ScalingDecision:
        now, policy, self.servers = time.monotonic(), self._policy, measured.servers
        self._history = self._history.seen(
            now, needed(policy, measured).workers, policy.idle_seconds
        )
        decision = decide(policy, measured, self._history, now)
        if decision.workers != self.workers:
            self._history = self._history.acted(now)
            before, self.workers = self.workers, decision.workers
            self.news = f"{_CALLED[self.role]} {before} -> {self.workers}: {decision.reason}"
            await self._fleet.resize(self.role, before, self.workers)
        elif decision.limited and decision.limited != self._limited:
            self.news = f"{self}: {decision.reason}"
        self._limited = decision.limited
        return decision
