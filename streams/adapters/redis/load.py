"""How loaded Redis is, from what it says of itself: its CPU, memory, and how long calls take."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from streams import telemetry

Info = Callable[[str], Awaitable[Sequence[Mapping[str, Any]]]]
"""What each node says in a section of INFO; nothing where we may not ask."""


class RedisLoad:
    """Looks at the nodes, and sets their gauges."""

    def __init__(self, info: Info, clock: Callable[[], float] = time.monotonic) -> None:
        self._info = info
        self._clock = clock
        self._at = 0.0
        self._cpu: list[float] = []
        self._calls = (0, 0)

    async def look(self) -> None:
        """Set the gauges; rates are those since the look before. Raises `Unavailable`."""
        memory = await self._info("memory")
        cpu = [_cpu_seconds(node) for node in await self._info("cpu")]
        commands = await self._info("commandstats")
        latencies = await self._info("latencystats")
        now = self._clock()
        if not memory:
            return
        telemetry.REDIS_MEMORY.set(sum(int(node["used_memory"]) for node in memory))
        limits = [int(node.get("maxmemory", 0)) for node in memory]
        telemetry.REDIS_MAX_MEMORY.set(sum(limits) if all(limits) else 0)
        if len(cpu) == len(self._cpu) and now > self._at:
            used = [max(0.0, b - a) for a, b in zip(self._cpu, cpu, strict=True)]
            telemetry.REDIS_USE.set(max(used, default=0.0) / (now - self._at))
        called = [_of_calls(node) for node in commands]
        calls, usec = sum(one[0] for one in called), sum(one[1] for one in called)
        if (more := calls - self._calls[0]) > 0 and self._calls[0]:
            telemetry.REDIS_CALL_SECONDS.set((usec - self._calls[1]) / more / 1e6)
        telemetry.REDIS_SLOW_CALL_SECONDS.set(max(map(_slow, latencies), default=0.0))
        self._at, self._cpu, self._calls = now, cpu, (calls, usec)


def _cpu_seconds(node: Mapping[str, Any]) -> float:
    """Of the thread that runs commands; of the process, where a server tells no more."""
    if "used_cpu_user_main_thread" in node:
        return float(node["used_cpu_user_main_thread"]) + float(node["used_cpu_sys_main_thread"])
    return float(node["used_cpu_user"]) + float(node["used_cpu_sys"])


def _of_calls(node: Mapping[str, Any]) -> tuple[int, int]:
    """Calls of functions, and the microseconds that they took."""
    found = node.get("cmdstat_fcall", {})
    return int(found.get("calls", 0)), int(found.get("usec", 0))


def _slow(node: Mapping[str, Any]) -> float:
    """Seconds that 99 of 100 function calls took at most."""
    return float(node.get("latency_percentiles_usec_fcall", {}).get("p99", 0.0)) / 1e6
