"""Scores for a micro-batch: the champion's, or the pipeline's fallback where it may not wait."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from streams import telemetry
from streams.errors import ModelError, Unavailable
from streams.ports import Scorer
from streams.retrying import until_available
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

_ONE_ATTEMPT = 0.1
"""Seconds that a batch may always take: one that was late already is not degraded unasked."""


class Champion(Protocol):
    """Which version serves, as the ledger says."""

    @property
    def version(self) -> int:
        """The champion's version; 0 while there is none."""
        ...

    @property
    def threshold(self) -> float:
        """Score from which the champion decides for class 1."""
        ...


@dataclass(frozen=True)
class Scores:
    """What was answered for a micro-batch, and by whom."""

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

    async def scores(self, vectors: NDArray[np.float32], received: float) -> Scores:
        """Scores of vectors [n, features] that were received at a monotonic time.

        Without `Fallback.after` it waits for as long as it takes; with it, the batch is served the
        fallback once it has waited so long. A batch of bad records alone waits for nobody.
        """
        if not len(vectors):
            return Scores(np.empty((0, self._outputs), np.float32), self._champion.version,
                          self._champion.threshold)  # fmt: skip
        if self._fallback.after is None:
            return await until_available(self._name, "infer", lambda: self._attempt(vectors))
        deadline = received + self._fallback.after
        reason = ""
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), _ONE_ATTEMPT)):
                served = await until_available(
                    self._name, "infer", lambda: self._attempt(vectors), deadline
                )
        except (TimeoutError, Unavailable, ModelError) as error:
            reason = str(error) or f"no answer in {self._fallback.after:g} s"
            served = self._fall_back(len(vectors))
        self._report(reason)
        return served

    async def _attempt(self, vectors: NDArray[np.float32]) -> Scores:
        """Each attempt asks anew who is champion, so that a roll-back ends a bad version."""
        version, threshold = self._champion.version, self._champion.threshold
        if version == 0:
            return self._fall_back(len(vectors))
        return Scores(await self._scorer.infer(version, vectors), version, threshold)

    def _fall_back(self, rows: int) -> Scores:
        """The fallback's."""
        telemetry.DEGRADED.labels(self._name).inc(rows)
        scores = np.full((rows, self._outputs), self._fallback.score, np.float32)
        return Scores(scores, 0, self._champion.threshold)

    def _report(self, reason: str) -> None:
        """One line when the fallback begins to answer for the model, and one when it ends."""
        if reason and not self._degraded:
            log.warning("degraded", pipeline=self._name, error=reason)
        elif self._degraded and not reason:
            log.info("no longer degraded", pipeline=self._name)
        self._degraded = bool(reason)
