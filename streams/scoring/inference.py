"""Scores for micro-batches: the champion's, or the pipeline's fallback where it may not wait.

A model that errs on some events and answers others is right about the others: its errors are found
and are those events' affair. One that errs on an event that it has answered before is unfit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import accumulate

import numpy as np
import structlog
from numpy.typing import NDArray

from streams import telemetry
from streams.aio.retrying import PASSING, until_available
from streams.errors import ModelError, Unavailable
from streams.ports.models import Beside, Champion, Scorer
from streams.scoring.beside import BesideInference
from streams.scoring.routing import Arms
from streams.scoring.served import ServedScores
from streams.spec import Pipeline
from streams.spec.layout import Rows

log = structlog.get_logger(__name__)

_ONE_ATTEMPT = 0.1
"""Seconds that one attempt always gets: a batch that is late already still asks the model."""


Entities = Callable[[], Sequence[bytes]]
"""The entity of each event, [n]."""


def _part(entities: Entities, part: slice) -> Sequence[bytes]:
    return entities()[part]


class Inference:
    """Asks the champion; waits and retries while no model server answers, as the policy says."""

    def __init__(self, pipeline: Pipeline, scorer: Scorer, champion: Champion) -> None:
        self._beside = BesideInference(pipeline, scorer)
        self._name = pipeline.name
        self._outputs = pipeline.model.outputs
        self._layout = pipeline.layout
        self._fallback = pipeline.policies.fallback
        self._scorer = scorer
        self._champion = champion
        self._degraded = False
        self._erred: set[int] = set()
        """Versions of which the log has said that they err on single events."""
        self._answered: tuple[int, Rows] | None = None
        """A version, and a row [1] that it has answered."""

    async def score(
        self,
        rows: Rows,
        entities: Entities,
        sizes: Sequence[int],
        received: float,
    ) -> ServedScores:
        """Scores of rows of several batches, received since a monotonic time.

        `entities` decide who is in which arm; nobody asks for them while no version is rolled out.

        One request for all, and one answer; where the model is unfit, one for each of `sizes` rows,
        so that only the batch whose rows brought it about has to wait.

        Without `Fallback.after` it waits for as long as it takes; with it, the batches are served
        the fallback once they have waited so long, and an event on which the model errs is served
        it too. Bad records alone wait for nobody.
        """
        if len(sizes) > 1:
            with suppress(ModelError):
                return await self._served(rows, entities, received, passing=(Unavailable,))
        parts = [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
        found = await asyncio.gather(
            *(self._served(rows[part], partial(_part, entities, part), received) for part in parts)
        )
        return ServedScores.joined(found)

    async def _served(
        self,
        rows: Rows,
        entities: Entities,
        received: float,
        passing: tuple[type[Exception], ...] = PASSING,
    ) -> ServedScores:
        if not len(rows):
            return ServedScores.of(np.empty((0, self._outputs), np.float32), 0, 0.0)
        attempt = partial(self._attempt, rows, entities)
        if self._fallback.after is None:
            return await until_available(self._name, "infer", attempt, passing=passing)
        deadline = received + self._fallback.after
        reason = ""
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), _ONE_ATTEMPT)):
                served = await until_available(self._name, "infer", attempt, deadline, passing)
        except passing + (TimeoutError,) as error:  # noqa: RUF005 - mypy reads no star here
            reason = str(error) or f"no answer in {self._fallback.after:g} s"
            served = self._fall_back(len(rows))
        self._report(reason)
        return served

    async def _attempt(self, rows: Rows, entities: Entities) -> ServedScores:
        """Each attempt asks anew who is champion, so that a roll-back ends a bad version."""
        beside = self._champion.beside
        if beside is None:
            return await self._champions(rows)
        return await self._in_arms(rows, Arms.of(beside, entities()), beside)

    async def _in_arms(self, rows: Rows, found: Arms, beside: Beside) -> ServedScores:
        """The champion's and another version's scores; the champion's where the other has none."""
        theirs, ours = np.flatnonzero(found.theirs), np.flatnonzero(~found.theirs)
        champions, others = await asyncio.gather(
            self._champions(rows[ours]), self._beside.score(beside, rows[theirs])
        )
        if others is not None:
            scored = np.asarray(np.isfinite(others.scores).all(axis=1))
            lacking, others, theirs = theirs[~scored], others.select(scored), theirs[scored]
            parts, places = [champions, others], [ours, theirs]
        else:
            lacking, parts, places = theirs, [champions], [ours]
        if len(lacking):
            telemetry.ANSWERED_FOR.labels(self._name, beside.arm).inc(len(lacking))
            parts, places = [*parts, await self._champions(rows[lacking])], [*places, lacking]
        served = ServedScores.joined(parts).take(np.argsort(np.concatenate(places)))
        return replace(served, arms=found.arms, propensities=found.propensities)

    async def _champions(self, rows: Rows) -> ServedScores:
        version, threshold = self._champion.version, self._champion.threshold
        if version == 0 or not len(rows):
            return self._fall_back(len(rows))
        try:
            scores = await self._scorer.infer(version, rows)
        except ModelError as error:
            scores = await self._one_by_one(version, rows, error)
        finite = np.isfinite(scores).all(axis=1)
        if finite.all():
            self._answered = (version, rows[:1])
            return ServedScores.of(scores, version, threshold)
        erring = int(np.count_nonzero(~finite))
        self._report_erring(version, erring)
        if self._fallback.after is None:
            return ServedScores.of(scores, version, threshold)
        telemetry.DEGRADED.labels(self._name).inc(erring)
        served = ServedScores.of(scores.copy(), version, threshold)
        served.scores[~finite], served.versions[~finite] = self._fallback.score, 0
        return served

    async def _one_by_one(self, version: int, rows: Rows, error: ModelError) -> NDArray[np.float32]:
        """The scores of those rows that the version answers, found by halving.

        Raises:
            ModelError: it does not answer what it has answered before either.
        """
        known = self._layout.zeros(1)
        if self._answered is not None and self._answered[0] == version:
            known = self._answered[1]
        try:
            await self._scorer.infer(version, known)
        except ModelError:
            raise error from None
        return await self._halved(version, rows)

    async def _halved(self, version: int, rows: Rows) -> NDArray[np.float32]:
        if len(rows) == 1:
            return np.full((1, self._outputs), np.nan, np.float32)
        found = []
        for half in np.array_split(rows, 2):
            try:
                found.append(await self._scorer.infer(version, half))
            except ModelError:
                found.append(await self._halved(version, half))
        return np.concatenate(found)

    def _fall_back(self, count: int) -> ServedScores:
        """The fallback's."""
        telemetry.DEGRADED.labels(self._name).inc(count)
        scores = np.full((count, self._outputs), self._fallback.score, np.float32)
        return ServedScores.of(scores, 0, self._champion.threshold)

    def _report_erring(self, version: int, events: int) -> None:
        """One line for each version that errs on single events; their dead letters tell which."""
        if version not in self._erred:
            log.error("model errs on single events", version=version, events=events)
        self._erred.add(version)

    def _report(self, reason: str) -> None:
        """One line when the fallback begins to answer for the model, and one when it ends."""
        if reason and not self._degraded:
            log.warning("degraded", pipeline=self._name, error=reason)
        elif self._degraded and not reason:
            log.info("no longer degraded", pipeline=self._name)
        self._degraded = bool(reason)
