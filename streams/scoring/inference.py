"""Scores for micro-batches: the champion's, or the pipeline's fallback where it may not wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray

from streams import telemetry
from streams.aio.retrying import PASSING, until_available
from streams.errors import ModelError, Unavailable
from streams.ports.models import Champion, Scorer
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

_ONE_ATTEMPT = 0.1
"""Seconds that one attempt always gets: a batch that is late already still asks the model."""


@dataclass(frozen=True)
class ServedScores:
    """The scores of a micro-batch, and the version that gave them."""

    scores: NDArray[np.float32]
    """[n, outputs]."""
    version: int
    """0 for the fallback."""
    threshold: float

    @property
    def degraded(self) -> bool:
        """Whether the fallback answered instead of a model."""
        return self.version == 0


class Inference:
    """Asks the champion; waits and retries while no model server answers, as the policy says."""

    def __init__(self, pipeline: Pipeline, scorer: Scorer, champion: Champion) -> None:
        self._name = pipeline.name
        self._outputs = pipeline.model.outputs
        self._fallback = pipeline.policies.fallback
        self._scorer = scorer
        self._champion = champion
        self._degraded = False

    async def score(
        self, vectors: NDArray[np.float32], sizes: Sequence[int], received: float
    ) -> list[ServedScores]:
        """Scores of vectors [n, features] of several batches, received since a monotonic time.

        One request for all, and one answer; where the model errs, one for each of `sizes` rows, so
        that only the batch whose vectors brought it about has to wait.

        Without `Fallback.after` it waits for as long as it takes; with it, the batches are served
        the fallback once they have waited so long. Bad records alone wait for nobody.
        """
        if len(sizes) > 1:
            with suppress(ModelError):
                return [await self._served(vectors, received, passing=(Unavailable,))]
        parts = np.split(vectors, np.cumsum(sizes)[:-1])
        return await asyncio.gather(*(self._served(part, received) for part in parts))

    async def _served(
        self,
        vectors: NDArray[np.float32],
        received: float,
        passing: tuple[type[Exception], ...] = PASSING,
    ) -> ServedScores:
        if not len(vectors):
            return ServedScores(
                np.empty((0, self._outputs), np.float32),
                self._champion.version,
                self._champion.threshold,
            )
        attempt = partial(self._attempt, vectors)
        if self._fallback.after is None:
            return await until_available(self._name, "infer", attempt, passing=passing)
        deadline = received + self._fallback.after
        reason = ""
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), _ONE_ATTEMPT)):
                served = await until_available(self._name, "infer", attempt, deadline, passing)
        except passing + (TimeoutError,) as error:  # noqa: RUF005 - mypy reads no star here
            reason = str(error) or f"no answer in {self._fallback.after:g} s"
            served = self._fall_back(len(vectors))
        self._report(reason)
        return served

    async def _attempt(self, vectors: NDArray[np.float32]) -> ServedScores:
        """Each attempt asks anew who is champion, so that a roll-back ends a bad version."""
        version, threshold = self._champion.version, self._champion.threshold
        if version == 0:
            return self._fall_back(len(vectors))
        return ServedScores(await self._scorer.infer(version, vectors), version, threshold)

    def _fall_back(self, rows: int) -> ServedScores:
        """The fallback's."""
        telemetry.DEGRADED.labels(self._name).inc(rows)
        scores = np.full((rows, self._outputs), self._fallback.score, np.float32)
        return ServedScores(scores, 0, self._champion.threshold)

    def _report(self, reason: str) -> None:
        """One line when the fallback begins to answer for the model, and one when it ends."""
        if reason and not self._degraded:
            log.warning("degraded", pipeline=self._name, error=reason)
        elif self._degraded and not reason:
            log.info("no longer degraded", pipeline=self._name)
        self._degraded = bool(reason)
