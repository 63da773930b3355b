"""Asks both versions of a roll-out for the same vectors: do they answer, and how fast?"""

from __future__ import annotations

import asyncio
import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from streams.adapters.triton.endpoints import TritonEndpoints
from streams.aio.cancelling import cancel
from streams.errors import ModelError, Unavailable
from streams.ledger.state import LedgerState
from streams.ports.models import Scorer
from streams.settings import Settings
from streams.spec import Pipeline
from workers.releases.probes import probes
from workers.rollouts.guards import LATEST_ASKED, Asked

_PAUSE = 0.4
"""Seconds between two questions."""
_WAITS = 2.0
"""So many times what an answer may take is waited for it."""


class Asking:
    """Asks for as long as it runs."""

    def __init__(self, settings: Settings, pipeline: Pipeline, state: LedgerState) -> None:
        self._state = state
        self._versions = (state.incumbent, state.challenger)
        self._vectors = probes(pipeline, state.versions[state.challenger])
        self._patience = _WAITS * pipeline.policies.rollout.slowest
        # each has its own: one whose requests fail is not asked for a while
        self._scorers = [self._scorer(settings, pipeline, one) for one in self._versions]
        self._answers: deque[Asked] = deque(maxlen=LATEST_ASKED)
        self._task: asyncio.Task[None] | None = None

    def _scorer(self, settings: Settings, pipeline: Pipeline, version: int) -> Scorer:
        known = self._state.versions
        scorer = TritonEndpoints.of(settings, pipeline, lambda: known, repairing=False)
        scorer.expect(lambda: (version,))
        return scorer

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.create_task(self._run(), name="rollout-asking")

    @property
    def answers(self) -> list[Asked]:
        """The newest. Raises what has ended the asking."""
        if self._task is not None and self._task.done():
            self._task.result()
        return list(self._answers)

    async def _run(self) -> None:
        while True:
            champion, challenger = await asyncio.gather(
                *(
                    self._ask(scorer, version, self._vectors)
                    for scorer, version in zip(self._scorers, self._versions, strict=True)
                )
            )
            self._answers.append(Asked(champion, challenger))
            await asyncio.sleep(_PAUSE)

    async def stop(self) -> None:
        """Ask no more, and release connections."""
        if self._task is not None:
            await cancel(self._task)
        await asyncio.gather(*(scorer.close() for scorer in self._scorers))

    async def _ask(
        self, scorer: Scorer, version: int, vectors: NDArray[np.float32]
    ) -> float | None:
        """Seconds that the answer took; None where there was none."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._patience):
                await scorer.infer(version, vectors)
        except (ModelError, Unavailable, TimeoutError):
            return None
        return time.monotonic() - begun
