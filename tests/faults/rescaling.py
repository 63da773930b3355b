"""A whole loop, whose scoring workers come and go: `python -m tests.faults.rescaling MODULE`."""

from __future__ import annotations

import asyncio
import sys

from streams.kafka import workarounds
from streams.settings import load_settings
from workers.environment import find_pipeline
from workers.processes.loop import running_loop
from workers.processes.scaling import Processes
from workers.processes.status import Status
from workers.processes.supervisor import end_with_parent

_FEWEST, _MOST = 1, 3


async def rescale(module: str) -> None:
    """Start and stop workers for ever, as `driftloop up --workers auto` does."""
    async with running_loop(load_settings(), module, None, print) as loop:
        fleet = Processes(loop, find_pipeline(module), Status(), print)
        print("scaling", flush=True)
        while True:
            await fleet.resize("score", _FEWEST, _MOST)
            await asyncio.sleep(1.0)
            await fleet.resize("score", _MOST, _FEWEST)


if __name__ == "__main__":
    end_with_parent()
    workarounds.apply()
    asyncio.run(rescale(sys.argv[1]))
