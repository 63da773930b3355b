"""What the workers of a running loop show to another process, which finds them by their logs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from streams.settings import Settings
from streams.spec import Pipeline
from workers.processes.notices import parsed
from workers.processes.watching import fetch
from workers.resources.meter import WINDOW_SECONDS, LoadMeter, LoadReading
from workers.resources.samples import rows, worker_counts

_SECONDS = 1.0
_ROLE = "score"


async def true_rate(settings: Settings, pipeline: Pipeline) -> tuple[int, float]:
    """How many scoring workers run here, and what one does in a busy second.

    The rate is 0 where none is behind: only those show what they can do. Takes some seconds.
    """
    logs = settings.state_dir / "logs" / pipeline.name
    meter, rate, workers = LoadMeter(), 0.0, 0
    deadline = time.monotonic() + WINDOW_SECONDS
    while True:
        reading = await _read(await asyncio.to_thread(_addresses, logs))
        workers = len(reading.workers)
        if not workers:
            return 0, 0.0
        if measured := meter.take(reading, workers):
            rate = measured.rate
        if time.monotonic() > deadline:
            return workers, rate
        await asyncio.sleep(_SECONDS)


async def _read(addresses: Mapping[str, str]) -> LoadReading:
    counts = {}
    for name, address in addresses.items():
        if text := await _fetched(address):
            counts[name] = worker_counts(rows(text))
    return LoadReading(time.monotonic(), counts, {}, {})


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
