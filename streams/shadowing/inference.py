"""Scores by versions that nobody is waiting for: large requests, and patience that ends.

The champion's consumers share the model server. So there is one request at a time for a version,
for all partitions that ask meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from streams.aio.coalescing import Coalescer
from streams.aio.retrying import until_available
from streams.errors import ModelError, Unavailable
from streams.ports.models import Scorer
from streams.spec import Pipeline
from streams.spec.layout import Rows

log = structlog.get_logger(__name__)

Scores = NDArray[np.float32]
T = TypeVar("T")

_ROWS = 1024
"""Most rows of a request that is made for several partitions; larger ones gain nothing."""
_ONE_ATTEMPT = 1.0
"""Seconds that an attempt may take when the patience with a version has ended."""


class ShadowInference:
    """Scores by any version. An error of the model is the affair of the rows that it errs on."""

    def __init__(self, pipeline: Pipeline, scorer: Scorer) -> None:
        self._outputs = pipeline.model.outputs
        self._scorer = scorer
        self._asked: dict[int, Coalescer[Rows, Scores]] = {}
        self._erred: set[int] = set()
        """Versions of which the log has said that they err."""

    async def score(self, version: int, rows: Rows) -> Scores:
        """Scores float32 [n, outputs] of rows; not finite where the version errs.

        Raises:
            Unavailable: no model server answers, or none has the version loaded.
        """
        if not len(rows):
            return np.empty((0, self._outputs), np.float32)
        if version not in self._asked:
            self._asked[version] = Coalescer(
                partial(self._joint, version), at_once=1, most=_ROWS, weigh=len
            )
        scores = await self._asked[version].ask(rows)
        erring = len(scores) - int(np.count_nonzero(np.isfinite(scores).all(axis=1)))
        if erring:
            self._say_erring(version, erring, "its scores are not finite")
        return scores

    async def _joint(self, version: int, asked: Sequence[Rows]) -> list[Scores]:
        try:
            scores = await self._scorer.infer(version, np.concatenate(asked))
        except ModelError as error:
            if len(asked) > 1:
                return [(await self._joint(version, [one]))[0] for one in asked]
            self._say_erring(version, len(asked[0]), str(error))
            return [np.full((len(asked[0]), self._outputs), np.nan, np.float32)]
        return np.split(scores, np.cumsum([len(one) for one in asked])[:-1])

    def _say_erring(self, version: int, events: int, error: str) -> None:
        """One line for each version: what it does not answer has no place in its evidence."""
        if version not in self._erred:
            log.error(
                "a version in the shadow errs, the shadow goes on without those events",
                version=version,
                events=events,
                error=error,
            )
        self._erred.add(version)


class Patience:
    """Waits for a version that does not answer, says once that it does not, and stops waiting."""

    def __init__(self, pipeline: Pipeline, seconds: float) -> None:
        self._name = pipeline.name
        self._seconds = seconds
        self._given_up = 0
        """The version that is not waited for any more; 0 for none."""

    async def answer(self, version: int, attempt: Callable[[], Awaitable[T]]) -> T | None:
        """What an attempt brings, repeated while no server answers; None where none does in time.

        A version that has failed so long is asked once by each later call, until it answers.
        """
        given_up = self._given_up == version
        seconds = _ONE_ATTEMPT if given_up else self._seconds
        deadline = time.monotonic() + (0.0 if given_up else seconds)
        reason = ""
        try:
            async with asyncio.timeout(seconds):
                found = await until_available(
                    self._name, "shadow", attempt, deadline, passing=(Unavailable,)
                )
        except Unavailable as error:
            reason = str(error).partition(" - ")[0]
        except TimeoutError:
            reason = f"no answer in {seconds:g} s"
        else:
            self._answers(version)
            return found
        self._give_up(version, reason)
        return None

    def _answers(self, version: int) -> None:
        if self._given_up == version:
            log.info("the challenger answers again", version=version)
        self._given_up = 0

    def _give_up(self, version: int, reason: str) -> None:
        if self._given_up != version:
            log.error(
                "the challenger does not answer, the shadow goes on without its scores",
                version=version,
                waited=self._seconds,
                error=f"version {version}: {reason}",
            )
        self._given_up = version
