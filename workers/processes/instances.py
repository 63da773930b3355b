"""Raises and lowers the instances of a loop's model in Triton, as `--workers auto` does workers."""

from __future__ import annotations

import time

from streams.errors import DriftloopError
from streams.settings import Settings
from streams.spec import Pipeline
from workers.releases.configuration import Configuration
from workers.releases.publisher import Publisher
from workers.resources.decision import ScalingHistory, Servers
from workers.resources.instances import Bounds, decide_instances, needed_instances


class InstanceScaling:
    """Follows how loaded Triton is."""

    @staticmethod
    def of(settings: Settings, pipeline: Pipeline) -> InstanceScaling | None:
        """None for a pipeline that does not ask for it."""
        made = Configuration(settings, pipeline)
        return InstanceScaling(settings, pipeline) if made.most > made.least else None

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._publisher = Publisher(settings, pipeline)
        made = self._publisher.configuration
        self._bounds = Bounds(made.least, made.most)
        self._scale = pipeline.policies.scale
        self._history = ScalingHistory()

    async def close(self) -> None:
        """Release the connections."""
        await self._publisher.close()

    async def look(self, servers: Servers) -> str:
        """Decide and carry it out; what was done, in words, or nothing."""
        now, current = time.monotonic(), self._publisher.instances
        idle, wanted = self._scale.idle_seconds, needed_instances(self._scale, servers, current)
        self._history = self._history.seen(now, wanted, idle)
        decision = decide_instances(self._scale, self._bounds, servers, current, self._history, now)
        if decision.workers == current:
            return ""
        self._history = self._history.acted(now)
        try:
            async with self._publisher.alone():
                await self._publisher.resize(decision.workers)
        except DriftloopError as error:
            return f"instances stay {current}: {error}"
        return f"instances {current} -> {decision.workers}: {decision.reason}"
