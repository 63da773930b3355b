"""Changes the number of instances: `python -m tests.faults.resizing INSTANCES ROLE MODULE`."""

from __future__ import annotations

import asyncio
import sys

from workers.environment import connected_settings, find_pipeline
from workers.releases.publisher import Publisher


async def resize(module: str, instances: int) -> None:
    """As `driftloop up --workers auto` does."""
    publisher = Publisher(connected_settings(module), find_pipeline(module))
    async with publisher.alone():
        print("changing", flush=True)
        await publisher.resize(instances)
    await publisher.close()


if __name__ == "__main__":
    asyncio.run(resize(sys.argv[3], int(sys.argv[1])))
