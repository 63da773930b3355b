"""Constant requests to whichever version the ledger names, as scoring workers make them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from streams.adapters.triton.scorer import TritonScorer
from streams.errors import DriftloopError
from streams.ledger.topic import LedgerFollower
from streams.settings import Settings
from streams.spec import Pipeline
from tests.waiting import until


@dataclass
class Traffic:
    """What came of the requests so far."""

    follower: LedgerFollower
    answered: dict[int, int] = field(default_factory=dict)
    """Requests by version."""
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.answered.values())

    async def until_version(self, version: int, timeout: float = 60.0) -> None:
        """Return when requests to a version have been answered."""
        await until(lambda: self.answered.get(version, 0) >= 20, within=timeout)


@asynccontextmanager
async def traffic(settings: Settings, pipeline: Pipeline) -> AsyncIterator[Traffic]:
    """Four streams of requests while the block runs."""
    follower = LedgerFollower(settings, pipeline)
    scorer = TritonScorer(settings, pipeline.name, pipeline.model.outputs)
    found = Traffic(follower)
    vectors = np.zeros((64, len(pipeline.feature_names)), np.float32)

    async def ask() -> None:
        while True:
            version = follower.version
            if version:
                try:
                    await scorer.infer(version, vectors)
                    found.answered[version] = found.answered.get(version, 0) + 1
                except DriftloopError as error:
                    found.failures.append(str(error))
            await asyncio.sleep(0.02)

    await follower.start()
    tasks = [asyncio.create_task(ask()) for _ in range(4)]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await follower.stop()
        await scorer.close()
