"""Tells how many workers the load asks for to who starts and stops them, such as Kubernetes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from math import floor

import structlog

from streams import telemetry
from streams.adapters.triton.resolving import look_up
from streams.errors import ConfigurationError, DriftloopError
from streams.kafka.offsets import OffsetsClient, offsets_client
from streams.settings import Settings
from streams.spec import Pipeline
from workers.processes.watching import fetch
from workers.resources.following import RoleScaling, policy_of, roles_of
from workers.resources.idling import unload
from workers.resources.samples import Rows, rows

log = structlog.get_logger(__name__)

_EVERY = 1.0
"""Seconds between two readings."""
_SECONDS = 1.0
"""For a worker's metrics to answer."""
_TOLERANCE = 0.1
"""The HPA adds nothing where so small a share of the pods more is wanted."""
_PATIENCE = 120.0
"""Seconds for which workers that were asked for are waited for; then those count that there are."""


class Scaler:
    """Follows the load of a pipeline's workers, whoever runs them."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        """Raises `ConfigurationError`: it is not said where workers show their metrics."""
        if not settings.workers:
            raise ConfigurationError(
                "DRIFTLOOP_WORKERS does not say where workers show their metrics - give host:port, "
                "with {role} for score, label and so on: driftloop-{role}:9100"
            )
        self._settings = settings
        self._pipeline = pipeline
        self._pods = Pods(settings, pipeline)
        self._roles: list[RoleScaling] = []
        self._short: dict[str, float] = {}
        """Since when there are fewer of a role than were asked for."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop. While Kafka is away what was decided last holds.

        Raises:
            Unavailable: Kafka does not answer at the start.
        """
        known = False
        while not stop.is_set():
            try:
                async with offsets_client(self._settings) as asked:
                    if not known:
                        known = True
                        await self._begin()
                    log.info("following the load", workers=self._settings.workers)
                    while not stop.is_set():
                        await self.look(asked)
                        await _pause(stop)
            except DriftloopError as error:
                if not known:
                    raise
                log.warning("nothing is decided until Kafka answers", error=str(error))
                await _pause(stop)

    async def _begin(self) -> None:
        """Take the workers that there are for those that are wanted, before the first decision."""
        names = roles_of(self._pipeline)
        await self._pods.look(names)
        for role in names:
            least = policy_of(role, self._pipeline.policies.scale).min
            count = max(least, len(self._pods.shown(role)))
            self._roles.append(RoleScaling(self._pipeline, role, self._pods, count))
            self._pods.want(role, count)

    async def look(self, asked: OffsetsClient) -> None:
        """Take readings, decide, and tell. Raises `Unavailable`."""
        await self._pods.look(one.role for one in self._roles)
        for one in self._roles:
            self._face(one)
            await one.look(asked)
            self._pods.want(one.role, one.workers)
            if one.news:
                log.info("scaling", role=one.role, news=one.news)

    def _face(self, one: RoleScaling) -> None:
        """Count those that there are, once those that were asked for have not come for long."""
        there, now = len(self._pods.shown(one.role)), asyncio.get_running_loop().time()
        if there >= one.workers:
            self._short.pop(one.role, None)
        elif now - self._short.setdefault(one.role, now) > _PATIENCE:
            log.warning("workers do not come", role=one.role, asked=one.workers, there=there)
            one.workers = there
            del self._short[one.role]


class Pods:
    """Workers that are found by a name, whose number a gauge tells to who runs them."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._name = pipeline.name
        self._shown: dict[str, dict[str, Rows]] = {}

    async def look(self, roles: Iterable[str]) -> None:
        """Read the metrics of all workers of these roles."""
        for role in roles:
            host, _, port = self._settings.workers.replace("{role}", role).rpartition(":")
            found = await _addresses(host, int(port))
            texts = await asyncio.gather(*(_fetched(address) for address in found))
            self._shown[role] = {
                address: rows(text) for address, text in zip(found, texts, strict=True) if text
            }

    def shown(self, role: str) -> Mapping[str, Rows]:
        """The numbers of each worker of a role that shows some, by its address."""
        return self._shown.get(role, {})

    async def cpu(self) -> float:
        """Nothing limits them all: each has CPUs of its own."""
        return 0.0

    async def resize(self, role: str, before: int, after: int) -> None:
        """Tell how many are wanted. Where nobody scores any more, the model is unloaded."""
        self.want(role, after)
        if role == "score" and before and not after:
            await unload(self._settings, self._name, log.warning)

    def want(self, role: str, workers: int) -> None:
        """Tell how many are wanted: as many more as the HPA acts on, where more are."""
        wanted = followed(workers, len(self.shown(role)))
        telemetry.WANTED_WORKERS.labels(self._name, role).set(wanted)


def followed(wanted: int, there: int) -> int:
    """The least number that is as many as are wanted, and that the HPA does not pass over."""
    return max(wanted, floor(there * (1 + _TOLERANCE)) + 1) if 0 < there < wanted else wanted


async def _addresses(host: str, port: int) -> list[str]:
    """Where a name leads to, each as `host:port`; nowhere while no worker runs."""
    try:
        return await look_up(host, port)
    except OSError:
        return []


async def _fetched(address: str) -> str:
    """A worker's metrics; empty where it does not answer."""
    try:
        async with asyncio.timeout(_SECONDS):
            return await fetch(f"http://{address}/metrics")
    except (OSError, TimeoutError):
        return ""


async def _pause(stop: asyncio.Event) -> None:
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({waiting}, timeout=_EVERY)
    waiting.cancel()
