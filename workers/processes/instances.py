"""Raises and lowers the instances of a loop's model in Triton, as `--workers auto` does workers."""

from __future__ import annotations

import asyncio
import time

from streams.aio.cancelling import cancel
from streams.errors import DriftloopError, Unavailable
from streams.ledger.topic import read_state
from streams.settings import Settings
from streams.spec import Pipeline
from workers.releases.configuration import Configuration
from workers.releases.publisher import Publisher
from workers.resources.decision import SETTLE_SECONDS, ScalingDecision, ScalingHistory, Servers
from workers.resources.instances import Bounds, decide_instances, needed_instances


class InstanceScaling:
    """Follows how loaded Triton is."""

    @staticmethod
    def of(settings: Settings, pipeline: Pipeline) -> InstanceScaling | None:
        """None for a pipeline that does not ask for it."""
        made = Configuration(settings, pipeline)
        return InstanceScaling(settings, pipeline) if made.most > made.least else None

    def __init__(
        self, settings: Settings, pipeline: Pipeline, publisher: Publisher | None = None
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._publisher = publisher or Publisher(settings, pipeline)
        made = self._publisher.loading.configuration
        self._bounds = Bounds(made.least, made.most)
        self._history = ScalingHistory()
        self._changing: asyncio.Task[str] | None = None
        self._owed = True
        """Some Triton may not run as many as are configured: who changed it may have been killed,
        or could not reach it."""
        self._limited = ""
        self._failure = ""

    def __str__(self) -> str:
        limited = f" ({self._limited} limits)" if self._limited else ""
        return f"instances {self._count}{limited}"

    async def close(self) -> None:
        """Stop, and release the connections."""
        if self._changing is not None:
            await cancel(self._changing)
        await self._publisher.close()

    async def look(self, servers: Servers) -> str:
        """Decide, and have it carried out meanwhile: Triton may take its time to load.

        Returns what came of it, or what keeps more from being started, once; or nothing.
        """
        if self._changing is None:
            return self._decide(servers)
        if not self._changing.done():
            return ""
        done, self._changing = self._changing, None
        return done.result()

    def _decide(self, servers: Servers) -> str:
        scale, now, current = self._pipeline.policies.scale, time.monotonic(), self._count
        settled = now - self._history.decided >= SETTLE_SECONDS
        wanted = needed_instances(scale, servers, current)
        self._history = self._history.seen(now, wanted, scale.idle_seconds)
        decision = decide_instances(scale, self._bounds, servers, current, self._history, now)
        if decision.workers != current or (self._owed and settled and servers.triton):
            self._history = self._history.acted(now)
            self._changing = asyncio.create_task(self._change(current, decision))
        before = self._limited
        if settled:
            self._limited = decision.limited
        news = decision.limited and decision.limited != before
        return f"instances {current}: {decision.reason}" if news else ""

    @property
    def _count(self) -> int:
        return self._publisher.instances

    async def _change(self, before: int, decision: ScalingDecision) -> str:
        after = decision.workers
        try:
            known = (await read_state(self._settings, self._pipeline)).versions
            async with self._publisher.alone():
                await self._publisher.resize(after, known)
        except DriftloopError as error:
            return self._failed(before, after, error)
        self._owed, self._failure = False, ""
        return "" if after == before else f"instances {before} -> {after}: {decision.reason}"

    def _failed(self, before: int, after: int, error: DriftloopError) -> str:
        """What is said of it, once."""
        self._owed = isinstance(error, Unavailable)
        said = f"instances stay {before}: {error}"
        if self._owed and self._count == after:
            said = f"{after} instances are configured, and not everywhere started: {error}"
        known, self._failure = self._failure, said
        return "" if said == known else said
