"""What workers show of themselves: samples of their metrics, as Prometheus reads them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from workers.resources.decision import Servers, TritonUse
from workers.resources.meter import WorkerCounts

_SAMPLE = re.compile(r"driftloop_(\w+?)(_total)?(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Sample(NamedTuple):
    """A number that a worker shows."""

    name: str
    """Without `driftloop_` and `_total`."""
    counts: bool
    """It only grows, while its worker runs."""
    labels: tuple[tuple[str, str], ...]
    value: float


Rows = Mapping[Sample, float]
"""A worker's numbers by sample, which is without a value there."""


def samples(text: str) -> Iterator[Sample]:
    """Our samples in a worker's metrics."""
    for line in text.splitlines():
        if found := _SAMPLE.match(line):
            name, total, labels, value = found.groups()
            yield Sample(name, total is not None, tuple(_LABEL.findall(labels or "")), float(value))


def rows(text: str) -> dict[Sample, float]:
    """A worker's numbers."""
    return {one._replace(value=0.0): one.value for one in samples(text)}


def worker_counts(found: Rows) -> WorkerCounts:
    """What a worker has counted."""
    return WorkerCounts(
        _total(found, "batch_records_sum"),
        _total(found, "busy_seconds"),
        _total(found, "stage_seconds_sum", stage="infer"),
        _total(found, "lag_records"),
        sum(key.name == "lag_records" for key in found),
    )


def retried(workers: Iterable[Rows]) -> dict[str, float]:
    """How often workers have tried again because a server was away, by stage."""
    found: dict[str, float] = defaultdict(float)
    for one in workers:
        for key, value in one.items():
            if key.name == "retries":
                found[dict(key.labels).get("stage", "")] += value
    return dict(found)


def servers(workers: Iterable[Rows]) -> Servers:
    """How loaded servers are, as the workers see them: each sees the same, at another moment."""
    triton: dict[str, TritonUse] = {}
    redis = memory = most = 0.0
    for one in workers:
        for key, value in one.items():
            if key.name == "triton_use":
                labels = dict(key.labels)
                use = TritonUse(
                    value, *(_of(one, f"triton_{name}_seconds", labels) for name in _TIMES)
                )
                endpoint = labels["endpoint"]
                triton[endpoint] = max(triton.get(endpoint, use), use)
        redis = max(redis, _total(one, "redis_use"))
        memory = max(memory, _total(one, "redis_memory_bytes"))
        most = max(most, _total(one, "redis_max_memory_bytes"))
    return Servers(triton, redis=redis, redis_memory=memory / most if most else 0.0)


_TIMES = ("queue", "compute")


def _of(found: Rows, name: str, labels: Mapping[str, str]) -> float:
    return sum(v for key, v in found.items() if key.name == name and dict(key.labels) == labels)


def _total(found: Rows, name: str, **labels: str) -> float:
    return sum(
        value
        for key, value in found.items()
        if key.name == name and labels.items() <= dict(key.labels).items()
    )
