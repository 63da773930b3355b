"""Changes the number of instances: `python -m tests.faults.resizing INSTANCES ROLE MODULE`."""

from __future__ import annotations

import asyncio
import sys

from streams.ledger.topic import read_state
from workers.environment import connected_settings, find_pipeline
from workers.releases.publisher import Publisher


async def resize(module: str, instances: int) -> None:
    """As `driftloop up --workers auto` does."""
    settings, pipeline = connected_settings(module), find_pipeline(module)
    publisher = Publisher(settings, pipeline)
    known = (await read_state(settings, pipeline)).versions
    async with publisher.alone():
        print("changing", flush=True)
        await publisher.resize(instances, known)
    await publisher.close()


if __name__ == "__main__":
    asyncio.run(resize(sys.argv[3], int(sys.argv[1])))
