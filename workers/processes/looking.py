"""What the workers of a running loop show to another process, which finds them by their logs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from streams.settings import Settings
from streams.spec import Pipeline
from workers.processes.notices import parsed
from workers.processes.watching import fetch
from workers.releases.configuration import Configuration
from workers.releases.repository import Repository
from workers.resources.meter import WINDOW_SECONDS, LoadMeter, LoadReading
from workers.resources.samples import rows, servers, worker_counts

_SECONDS = 1.0
_ROLE = "score"


class TrueRate(NamedTuple):
    """What the scoring workers that run here do."""

    workers: int
    rate: float
    """Events that one does in a busy second; 0 where none is behind: only those show what they can
    do."""
    triton_seconds: float
    """Seconds of one of Triton's instances for an event; 0 where none came."""


async def true_rate(settings: Settings, pipeline: Pipeline) -> TrueRate:
    """Watch the workers that run here for some seconds."""
    logs = settings.state_dir / "logs" / pipeline.name
    meter, rate, used, done = LoadMeter(), 0.0, 0.0, list[float]()
    begun = time.monotonic()
    while True:
        reading = await _read(await asyncio.to_thread(_addresses, logs))
        workers = len(reading.workers)
        if not workers:
            return TrueRate(0, 0.0, 0.0)
        if measured := meter.take(reading, workers):
            rate = measured.rate
        used += sum(one.use for one in reading.servers.triton.values())
        done.append(sum(one.records for one in reading.workers.values()))
        passed = time.monotonic() - begun
        if passed > WINDOW_SECONDS:
            events = (done[-1] - done[0]) / passed
            busy = used / len(done) * _instances(settings, pipeline)
            return TrueRate(workers, rate, busy / events if events > 0 else 0.0)
        await asyncio.sleep(_SECONDS)


def _instances(settings: Settings, pipeline: Pipeline) -> int:
    """That each Triton runs of a version, as their configuration says."""
    repository = Repository(settings.model_repository, pipeline.name)
    return Configuration(settings, pipeline).instances(repository.configs().values())


async def _read(addresses: Mapping[str, str]) -> LoadReading:
    shown = {name: rows(await _fetched(at)) for name, at in addresses.items()}
    shown = {name: found for name, found in shown.items() if found}
    counts = {name: worker_counts(found) for name, found in shown.items()}
    return LoadReading(time.monotonic(), counts, {}, {}, servers(shown.values()))


def _addresses(logs: Path) -> dict[str, str]:
    """Where workers have served their metrics, by name; those that have ended, too."""
    found = {log.stem: _address(log) for log in logs.glob(f"{_ROLE}-*.log")}
    return {name: address for name, address in found.items() if address}


def _address(log: Path) -> str:
    """Where the worker of a log serves its metrics, as it said last; empty for nowhere."""
    found = ""
    with log.open(errors="replace") as lines:
        for line in lines:
            if "serving metrics" in line:
                found = str(parsed(line.rstrip("\n")).get("at", found))
    return found


async def _fetched(address: str) -> str:
    """A worker's metrics; empty where nobody answers there any more."""
    try:
        async with asyncio.timeout(_SECONDS):
            return await fetch(address)
    except (OSError, TimeoutError):
        return ""
