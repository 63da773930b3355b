"""One request to the model servers for all lanes that ask at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.adapters.together import Together
from streams.errors import ModelError
from streams.ports import Scorer

LARGEST = 1024
"""Rows of a joint request: larger ones gain nothing, and would wait for each other."""

_Request = tuple[int, NDArray[np.float32]]


class JointScorer:
    """`Scorer` that joins small requests of one version; the scorer behind it sees one."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._together: Together[_Request, NDArray[np.float32]] = Together(self._answer)

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """As the scorer's `infer`; a `ModelError` is raised to whose vectors brought it about."""
        if len(vectors) > LARGEST // 2:
            return await self._scorer.infer(version, vectors)
        return await self._together.ask((version, vectors))

    async def close(self) -> None:
        """Close the scorer."""
        await self._scorer.close()

    async def _answer(
        self, requests: Sequence[_Request]
    ) -> Sequence[NDArray[np.float32] | Exception]:
        version = requests[0][0]
        sizes = [len(vectors) for _, vectors in requests]
        if sum(sizes) > LARGEST or any(other != version for other, _ in requests):
            return await self._each(requests)
        try:
            scores = await self._scorer.infer(version, np.concatenate([v for _, v in requests]))
        except ModelError:
            if len(requests) == 1:
                raise
            return await self._each(requests)
        return np.split(scores, np.cumsum(sizes)[:-1])

    async def _each(
        self, requests: Sequence[_Request]
    ) -> Sequence[NDArray[np.float32] | Exception]:
        calls = (self._scorer.infer(*request) for request in requests)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        return [a if isinstance(a, np.ndarray) else _error(a) for a in answers]


def _error(raised: BaseException) -> Exception:
    if not isinstance(raised, Exception):
        raise raised
    return raised
