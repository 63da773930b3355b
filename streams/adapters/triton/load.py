"""How loaded each Triton is, from its own statistics: waiting, work, and requests in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tritonclient.utils import InferenceServerException

from streams import telemetry
from streams.adapters.triton.client import LazyClient, ready_versions
from streams.adapters.triton.resolving import PerTriton
from streams.settings import Settings
from streams.versions import is_model_of

_SECONDS = 1.0
"""An endpoint that answers later shows nothing."""
_NS = 1e-9
_GAUGES = (
    telemetry.TRITON_QUEUE_SECONDS,
    telemetry.TRITON_COMPUTE_SECONDS,
    telemetry.TRITON_IN_FLIGHT,
    telemetry.TRITON_USE,
)


class TritonCounts(NamedTuple):
    """What Triton has counted of a version since it was loaded; times in seconds."""

    requests: int
    queued: float
    """That requests waited, added up."""
    computed: float
    """That requests were worked on, added up: those of one batch count its time each."""
    present: float
    """That requests were in Triton, added up."""
    worked: float
    """That instances worked, added up: a batch counts once."""


class VersionLoad(NamedTuple):
    """Of a version, between two looks."""

    queue_seconds: float
    compute_seconds: float
    in_flight: float
    """Mean number of requests in Triton: their time there over the time passed (Little's law)."""
    use: float
    """Mean share of the instances that worked."""


def load_between(
    before: TritonCounts, now: TritonCounts, seconds: float, instances: int
) -> VersionLoad:
    """The load in the seconds between two countings; without requests there is none."""
    requests = now.requests - before.requests
    if requests <= 0 or seconds <= 0:  # none, or Triton was started anew
        return VersionLoad(0.0, 0.0, 0.0, 0.0)
    return VersionLoad(
        (now.queued - before.queued) / requests,
        (now.computed - before.computed) / requests,
        (now.present - before.present) / seconds,
        (now.worked - before.worked) / seconds / max(1, instances),
    )


class TritonLoads:
    """Looks at each endpoint that the settings name, and sets its gauges."""

    def __init__(
        self, settings: Settings, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._endpoints = PerTriton(settings, lambda one: _Endpoint(one, name, clock))

    async def look(self) -> None:
        """Set the gauges; those of an endpoint that does not answer are taken away."""
        await asyncio.gather(*(endpoint.look() for endpoint in await self._endpoints.now()))

    async def close(self) -> None:
        """Release the connections."""
        await self._endpoints.close()


class _Endpoint:
    def __init__(self, settings: Settings, name: str, clock: Callable[[], float]) -> None:
        self._connection = LazyClient(settings)
        self._address = settings.triton
        self._name = name
        self._clock = clock
        self._at = 0.0
        self._before: Mapping[str, TritonCounts] = {}
        self._shown: set[str] = set()

    async def look(self) -> None:
        try:
            now, instances = await self._count()
        except InferenceServerException:  # it is away, or serves nothing: the scorer says so
            now, instances = {}, 1
        at = self._clock()
        self._forget(self._shown - now.keys())
        for version, counted in now.items():
            before = self._before.get(version, counted)
            load = load_between(before, counted, at - self._at, instances)
            for gauge, value in zip(_GAUGES, load, strict=True):
                gauge.labels(self._name, self._address, version).set(value)
        self._at, self._before, self._shown = at, now, set(now)

    async def close(self) -> None:
        self._forget(self._shown)
        await self._connection.close()

    def _forget(self, versions: Iterable[str]) -> None:
        """Show nothing of them any more."""
        for version in versions:
            for gauge in _GAUGES:
                gauge.remove(self._name, self._address, version)

    async def _count(self) -> tuple[dict[str, TritonCounts], int]:
        """What is counted by version, and how many instances each has here: all as many."""
        client: Any = self._connection.get()
        found = await ready_versions(client, _SECONDS)
        models = sorted({model for model, _ in found if is_model_of(self._name, model)})
        counts: dict[str, TritonCounts] = {}
        instances = 1
        for model in models:
            statistics, config = await asyncio.gather(
                client.get_inference_statistics(model, client_timeout=_SECONDS),
                client.get_model_config(model, client_timeout=_SECONDS),
            )
            groups = config.config.instance_group
            instances = sum(group.count * max(1, len(group.gpus)) for group in groups)
            counts |= {one.version: _counted(one) for one in statistics.model_stats}
        return counts, instances


def _counted(found: Any) -> TritonCounts:
    """From a `ModelStatistics` of Triton's protocol."""
    told = found.inference_stats
    computed = sum(
        part.ns for part in (told.compute_input, told.compute_infer, told.compute_output)
    )
    worked = sum(
        part.ns
        for batch in found.batch_stats
        for part in (batch.compute_input, batch.compute_infer, batch.compute_output)
    )
    return TritonCounts(
        told.success.count,
        told.queue.ns * _NS,
        computed * _NS,
        told.success.ns * _NS,
        worked * _NS,
    )
