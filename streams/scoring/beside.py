"""Scores by the version that serves some of the entities beside the champion.

It is on trial, so nobody waits for it for long: the champion answers for it. One that does not
answer is asked again after a pause, which doubles.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from streams.errors import ModelError, Unavailable
from streams.ports.models import Beside, Scorer
from streams.scoring.served import ServedScores
from streams.spec import Pipeline
from streams.spec.layout import Rows

log = structlog.get_logger(__name__)

_PAUSE, _LONGEST = 1.0, 30.0
"""Seconds until one that did not answer is asked again: the first time, and at most."""


class BesideInference:
    """Asks a version within the time that the policy allows."""

    def __init__(self, pipeline: Pipeline, scorer: Scorer) -> None:
        self._seconds = pipeline.policies.rollout.slowest
        self._scorer = scorer
        self._failing = 0
        """The version that did not answer the last time; 0 for none."""
        self._pause = _PAUSE
        self._again = 0.0
        """When it is asked again, monotonic."""

    async def score(self, beside: Beside, rows: Rows) -> ServedScores | None:
        """What it says of rows, not finite where it errs on one; None where it
        does not answer in time."""
        if self._failing == beside.version and time.monotonic() < self._again:
            return None
        try:
            async with asyncio.timeout(self._seconds):
                scores = await self._scorer.infer(beside.version, rows)
        except (ModelError, Unavailable) as error:
            self._fails(beside, str(error))
        except TimeoutError:
            self._fails(beside, f"no answer in {self._seconds:g} s")
        else:
            self._failing = 0
            return ServedScores.of(scores, beside.version, beside.threshold)
        return None

    def _fails(self, beside: Beside, reason: str) -> None:
        again = self._failing == beside.version
        if not again:
            log.error(
                "a version does not answer its share of the events, the champion does",
                version=beside.version,
                arm=beside.arm,
                error=reason,
            )
        self._failing = beside.version
        self._pause = min(2 * self._pause, _LONGEST) if again else _PAUSE
        self._again = time.monotonic() + self._pause
