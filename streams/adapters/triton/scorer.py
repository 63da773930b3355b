"""Scores from Triton over gRPC: one request per micro-batch."""

from __future__ import annotations

from itertools import starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from streams.adapters.scores import check_scores
from streams.adapters.triton.client import LazyClient, explained
from streams.settings import Settings
from streams.spec.layout import MEANT, Rows, tensors_of
from streams.spec.model import OUTPUT
from streams.versions import Picks


class TritonScorer:
    """`Scorer` on one Triton server."""

    def __init__(
        self, settings: Settings, name: str, outputs: int, picks: Picks | None = None
    ) -> None:
        """Without `picks`, versions are of the model `name` and take rows as they are."""
        self._settings = settings
        self._name = name
        self._outputs = outputs
        self._picks = picks
        self._connection = LazyClient(settings)
        self._requested = [InferRequestedOutput(OUTPUT)]

    async def infer(self, version: int, rows: Rows) -> NDArray[np.float32]:
        """Scores float32 [n, outputs] of rows by one version.

        Raises:
            Unavailable: Triton is away, too slow, or does not have the version (yet).
            ModelError: the version answers wrongly, or takes what a row does not have.
        """
        if not len(rows):
            return np.empty((0, self._outputs), np.float32)
        name = self._name
        if self._picks is not None:
            name, rows = self._picks.model(version), self._picks.of(version).of(rows)
        request = list(starmap(_given, tensors_of(rows).items()))
        try:
            answer = await self._client.infer(
                name,
                request,
                model_version=str(version),
                outputs=self._requested,
                client_timeout=self._settings.triton_timeout,
            )
        except InferenceServerException as error:
            raise explained(error, self._settings, f"{name} version {version}") from None
        return self._checked(version, len(rows), answer)

    async def close(self) -> None:
        """Release the connection."""
        await self._connection.close()

    @property
    def _client(self) -> Any:
        return self._connection.get()

    def _checked(self, version: int, rows: int, answer: Any) -> NDArray[np.float32]:
        try:
            scores = answer.as_numpy(OUTPUT)
        except ValueError:  # bytes that do not fill the shape they claim
            scores = None
        return check_scores(self._name, version, scores, (rows, self._outputs))


def _given(name: str, tensor: NDArray[Any]) -> InferInput:
    given = InferInput(name, list(tensor.shape), MEANT[tensor.dtype.str].triton)
    given.set_data_from_numpy(tensor)
    return given
