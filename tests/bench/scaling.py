"""How the scaling decision does on simulated load: `python -m tests.bench.scaling`.

The workers are simulated: a fixed service time, a start that takes seconds, and a pause of the
whole group whenever one comes or goes. What decides is the real thing: `LoadMeter` and `decide`, on
what the workers would count. Records wait in their partition, first come, first served; partitions
are shared out as Kafka's range assignor does. No server is started; a day takes some seconds.

With `--kubernetes` the number goes the way that it goes there: Prometheus scrapes the scaler's
gauge, the HPA reads it through KEDA and passes small changes over, pods take longer to start.
"""

from __future__ import annotations

import argparse
import json
import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from streams.spec import Scale
from workers.processes.scaler import followed
from workers.resources.decision import (
    Measured,
    ScalingHistory,
    Servers,
    TritonUse,
    decide,
    needed,
)
from workers.resources.meter import LoadMeter, LoadReading, WorkerCounts

_NOISE = 0.05
"""Of the service time, from one step to the next: the deviation of its logarithm."""
STEP = 0.5
"""Seconds of a step of the simulation."""
STARTS = 6.0
"""Seconds from a decision until a new worker has joined."""
POD_STARTS = 20.0
"""The same of a pod, whose image is there."""
PAUSE = 1.0
"""Seconds for which nobody works when a worker comes or goes."""
PARTITIONS = 24
SERVICE = 1e-3
"""Seconds of work for a record: a worker does 1,000 a second."""
DAY = 86_400.0
_SCRAPE, _SYNC, _SYNC_AT = 15.0, 15.0, 7.0
"""Seconds between two scrapes of Prometheus, and between two looks of the HPA, which come so much
later."""
_TOLERANCE = 0.1
"""The HPA changes nothing where it is that near: 10 pods stay where 11 are wanted."""

Load = Callable[[float], float]
"""Records that arrive a second, at a time."""


@dataclass
class Shape:
    """A load, and when it takes its steps."""

    load: Load
    seconds: float
    steps: tuple[float, ...] = ()
    """Times at which the load jumps; none where it changes steadily."""
    hot: float = 1 / PARTITIONS
    """Share of one partition; the others have the same."""
    shared: float = math.inf
    """Records a second that a server does for all workers together."""
    server: str = ""
    """Which server that is: Triton or Redis."""


@dataclass
class Ran:
    """What came of a load."""

    cost: float
    """Seconds of all workers, added up, from when each was asked for."""
    p99: float
    """Seconds from a record's arrival to its end, 99 of 100 records."""
    most: int
    decided: list[tuple[float, int]] = field(default_factory=list)
    limited: set[str] = field(default_factory=set)
    """What was said to limit the workers."""
    backlog: list[tuple[float, float]] = field(default_factory=list)


class Workers:
    """Simulated workers that share partitions."""

    def __init__(self, count: int, shape: Shape, seed: int, starts: float = STARTS) -> None:
        self._shape = shape
        self._starts = starts
        self.shares = np.full(PARTITIONS, (1 - shape.hot) / (PARTITIONS - 1))
        self.shares[0] = shape.hot
        self._use = 0.0
        self.names = [f"score-{n}" for n in range(1, count + 1)]
        self.joined = dict.fromkeys(self.names, 0.0)
        self.counts = {name: [0.0, 0.0, 0.0] for name in self.names}
        self.queue = np.zeros(PARTITIONS)
        self.ends = np.zeros(PARTITIONS)
        self.paused_until = 0.0
        self._active = list(self.names)
        self._random = np.random.default_rng(seed)

    def resize(self, count: int, now: float) -> None:
        for number in range(len(self.names) + 1, count + 1):
            name = f"score-{number}"
            self.names.append(name)
            self.joined[name] = now + self._starts
            self.counts[name] = [0.0, 0.0, 0.0]
        for name in self.names[count:]:
            del self.joined[name], self.counts[name]
        del self.names[count:]

    def work(self, now: float, arriving: float) -> NDArray[np.float64]:
        """One step; the records that are done, by partition."""
        arrived = self.shares * arriving * STEP
        self.queue += arrived
        self.ends += arrived
        active = [name for name in self.names if self.joined[name] <= now]
        if active != self._active:
            self._active, self.paused_until = active, now + PAUSE
        done = np.zeros(PARTITIONS)
        shares = np.array_split(np.arange(PARTITIONS), len(active))
        for name, mine in zip(active, shares, strict=True):
            counts = self.counts[name]
            rate = min(1 / SERVICE, self._shape.shared / len(active))
            can = 0.0 if now < self.paused_until else STEP * rate
            can *= math.exp(_NOISE * self._random.standard_normal())
            waiting = float(self.queue[mine].sum())
            done[mine] = _fairly(self.queue[mine], can)
            worked = float(done[mine].sum())
            counts[0] += worked
            counts[1] += STEP * min(1.0, waiting / can) if can else 0.0
            counts[2] = waiting - worked
        self.queue -= done
        self._use = float(done.sum()) / STEP / self._shape.shared
        return done

    def reading(self, now: float) -> LoadReading:
        counts = {
            name: WorkerCounts(records, busy, busy, lag)
            for name, (records, busy, lag) in self.counts.items()
            if name in self._active
        }
        ends = {p: int(end) for p, end in enumerate(self.ends)}
        committed = {p: int(end - waiting) for p, (end, waiting) in enumerate(self._positions())}
        return LoadReading(now, counts, ends, committed, self._servers())

    def _servers(self) -> Servers:
        match self._shape.server:
            case "Triton":
                return Servers({"triton:8001": TritonUse(self._use, 0.01, 0.01)})
            case "Redis":
                return Servers(redis=self._use)
            case _:
                return Servers()

    def _positions(self) -> list[tuple[float, float]]:
        return list(zip(self.ends.tolist(), self.queue.tolist(), strict=True))


def _fairly(queues: NDArray[np.float64], can: float) -> NDArray[np.float64]:
    """What is done of each queue: each gets the same, and what one does not need the others."""
    if queues.sum() <= can:
        return queues
    done, left = np.zeros(len(queues)), can
    for i, k in enumerate(np.argsort(queues)):
        done[k] = min(queues[k], left / (len(queues) - i))
        left -= done[k]
    return done


class Kubernetes:
    """From the number that is wanted to the number of pods: Prometheus, KEDA and the HPA.

    The HPA's algorithm: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale,
    "Algorithm details"; there is no stabilization window, and policies allow any step (the chart).
    """

    def __init__(self, workers: Workers, wanted: int) -> None:
        self._workers = workers
        self._scraped = wanted

    def follow(self, now: float, wanted: int) -> None:
        """One step."""
        there = len(self._workers.names)
        if now % _SCRAPE == 0:
            self._scraped = followed(wanted, there)
        if now % _SYNC == _SYNC_AT and abs(self._scraped / there - 1) > _TOLERANCE:
            self._workers.resize(self._scraped, now)


def run(
    shape: Shape,
    policy: Scale,
    fixed: int | None = None,
    seed: int = 7,
    *,
    kubernetes: bool = False,
) -> Ran:
    """Simulate a load: with a fixed number of workers, or with as many as are decided."""
    starts = POD_STARTS if kubernetes else STARTS
    workers = Workers(fixed or policy.min, shape, seed, starts)
    meter, history, ran = LoadMeter(), ScalingHistory(), Ran(0.0, 0.0, fixed or policy.min)
    count = len(workers.names)
    pods = Kubernetes(workers, count) if kubernetes and not fixed else None
    ended = int(shape.seconds / STEP)
    arrived, done = np.zeros(ended), np.zeros((ended, PARTITIONS))
    for i in range(ended):
        now = i * STEP
        arrived[i] = shape.load(now)
        done[i] = workers.work(now, arrived[i])
        if pods is not None:
            pods.follow(now, count)
        ran.cost += len(workers.names) * STEP
        ran.most = max(ran.most, len(workers.names))
        ran.backlog.append((now, float(workers.queue.sum())))
        if fixed or i % round(1 / STEP):
            continue
        measured = meter.take(workers.reading(now), count)
        if measured is None:
            continue
        history = history.seen(now, needed(policy, measured).workers, policy.idle_seconds)
        decision = decide(policy, measured, history, now)
        ran.limited |= {decision.limited} - {""}
        if decision.workers != count:
            history, count = history.acted(now), decision.workers
            if pods is None:
                workers.resize(count, now)
            ran.decided.append((now, count))
    ran.p99 = _p99(arrived * STEP / PARTITIONS, done) if shape.hot == 1 / PARTITIONS else math.nan
    return ran


def _p99(arrived: NDArray[np.float64], done: NDArray[np.float64]) -> float:
    """From each partition's arrivals [steps] and departures [steps, partitions], in order."""
    came, left = arrived.cumsum(), done.cumsum(axis=0)
    waits, steps = [], np.arange(len(came))
    for partition in range(PARTITIONS):
        out = np.searchsorted(left[:, partition], came - 1e-6)
        waits.append((out - steps) * STEP)
    every = np.concatenate(waits)
    weight = np.tile(arrived, PARTITIONS)
    order = np.argsort(every)
    at = np.searchsorted(weight[order].cumsum(), 0.99 * weight.sum())
    return float(every[order][at])


def handbook_day(now: float) -> float:
    """The payments of the example's world: about noon, with a deviation of 20,000 s."""
    return 12_000.0 * math.exp(-0.5 * ((now % DAY - DAY / 2) / 20_000.0) ** 2)


def two_peaks(now: float) -> float:
    """A shop's day: quiet nights, a peak at noon and a higher one in the evening."""
    hour = now % DAY / 3600
    noon = 6_000.0 * math.exp(-0.5 * ((hour - 12.5) / 1.5) ** 2)
    evening = 12_000.0 * math.exp(-0.5 * ((hour - 19.5) / 2.0) ** 2)
    return 800.0 + noon + evening


def square(now: float) -> float:
    return 3_000.0 if 600 <= now < 1_800 else 600.0


def ramp(now: float) -> float:
    return 500.0 + 4_500.0 * max(0.0, 1 - abs(now - 1_800) / 1_500)


def burst(now: float) -> float:
    return 3_000.0 if 600 <= now < 630 else 600.0


SHAPES = {
    "x5 and back": Shape(square, 3_600, (600.0, 1_800.0)),
    "ramp": Shape(ramp, 4_800),
    "burst of 30 s": Shape(burst, 2_400, (600.0, 630.0)),
    "day, one peak": Shape(handbook_day, DAY),
    "day, two peaks": Shape(two_peaks, DAY),
}

LIMITED = {
    "Triton is the limit": Shape(square, 1_800, shared=900.0, server="Triton"),
    "Redis is the limit": Shape(square, 1_800, shared=900.0, server="Redis"),
    "one partition is hot": Shape(lambda now: square(now) / 2, 1_800, hot=0.9),
}
"""More workers would not help."""


@dataclass(frozen=True)
class Row:
    """What is told of a load."""

    shape: str
    decisions: int
    per_step: float
    """The most decisions that followed one step of the load, or one worker that it asks for."""
    overshoot: int
    """Workers above what the largest load asks for."""
    gone: float
    """Seconds from a step until no more waits than arrives in a second."""
    p99: float
    cost_to_best: float
    """To the cost of the smallest fixed number with a p99 that is as good."""
    cost_to_peak: float
    """To the cost of the fixed number that the largest load asks for."""


def judged(name: str, policy: Scale, *, kubernetes: bool) -> Row:
    """A load run by what is decided, beside fixed numbers of workers."""
    shape = SHAPES[name]
    ideal = [ideal_for(policy, shape.load(t)) for t in np.arange(0, shape.seconds, 10 * STEP)]
    ran, peak = run(shape, policy, kubernetes=kubernetes), max(ideal)
    at_peak = run(shape, policy, peak)
    fixed = range(1, peak)
    as_good = bisect_left(fixed, True, key=lambda k: run(shape, policy, k).p99 <= ran.p99)
    best = run(shape, policy, fixed[as_good]) if as_good < len(fixed) else at_peak
    bounds = (*shape.steps, shape.seconds)
    if shape.steps:
        found = [sum(a <= at < b for at, _ in ran.decided) for a, b in pairwise(bounds)]
        per_step = float(max(found))
    else:
        changes = sum(a != b for a, b in pairwise(ideal))
        per_step = len(ran.decided) / max(1, changes)
    return Row(
        name,
        len(ran.decided),
        per_step,
        max(0, ran.most - peak),
        gone(shape, ran),
        ran.p99,
        ran.cost / best.cost,
        ran.cost / at_peak.cost,
    )


def ideal_for(policy: Scale, load: float) -> int:
    """How many workers a load asks for that stays as it is."""
    each = dict.fromkeys(range(PARTITIONS), load / PARTITIONS)
    return needed(policy, Measured(1, each, {}, 1 / SERVICE)).workers


def gone(shape: Shape, ran: Ran) -> float:
    """The longest time for which more waited than arrives in a second."""
    longest = since = 0.0
    for now, waiting in ran.backlog:
        if waiting <= max(1.0, shape.load(now)):
            since = now
        longest = max(longest, now - since)
    return longest


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scaling", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--kubernetes", action="store_true", help="as Kubernetes carries it out")
    parser.add_argument("--only", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    given = parser.parse_args()
    policy = Scale(max=PARTITIONS)
    rows = [judged(name, policy, kubernetes=given.kubernetes) for name in given.only]
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    table = Table(title=f"catch-up {policy.catch_up}, use {policy.use}, idle {policy.idle}")
    for title in ("load", "decisions", "a step", "overshoot", "gone, s", "p99, s", "best", "peak"):
        table.add_column(title, justify="left" if title == "load" else "right")
    for row in rows:
        table.add_row(
            row.shape,
            str(row.decisions),
            f"{row.per_step:.2g}",
            str(row.overshoot),
            f"{row.gone:.0f}",
            f"{row.p99:.1f}",
            f"{row.cost_to_best:.2f}",
            f"{row.cost_to_peak:.2f}",
        )
    Console().print(table)
    limited = Table("load", "workers added", "named", title="more workers would not help")
    for name, shape in LIMITED.items():
        ran = run(shape, policy)
        limited.add_row(name, str(ran.most - policy.min), ", ".join(sorted(ran.limited)))
    Console().print(limited)


if __name__ == "__main__":
    main()
