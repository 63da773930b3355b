"""Scores from Triton over gRPC: one request per micro-batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from streams.adapters.scores import check_scores
from streams.adapters.triton.client import explained, triton_client
from streams.settings import Settings
from streams.spec.model import INPUT, OUTPUT


class TritonScorer:
    """`Scorer` on one Triton server."""

    def __init__(self, settings: Settings, name: str, outputs: int) -> None:
        self._settings = settings
        self._name = name
        self._outputs = outputs
        self._opened: InferenceServerClient | None = None
        self._requested = [InferRequestedOutput(OUTPUT)]

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores float32 [n, outputs] of vectors [n, features] by one version.

        Raises:
            Unavailable: Triton is away, too slow, or does not have the version (yet).
            ModelError: the version answers wrongly.
        """
        if not len(vectors):
            return np.empty((0, self._outputs), np.float32)
        request = InferInput(INPUT, list(vectors.shape), "FP32")
        request.set_data_from_numpy(np.ascontiguousarray(vectors, np.float32))
        try:
            answer = await self._client.infer(
                self._name,
                [request],
                model_version=str(version),
                outputs=self._requested,
                client_timeout=self._settings.triton_timeout,
            )
        except InferenceServerException as error:
            raise explained(error, self._settings, f"{self._name} version {version}") from None
        return self._checked(version, len(vectors), answer)

    async def close(self) -> None:
        """Release the connection."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    @property
    def _client(self) -> Any:
        if self._opened is None:  # belongs to the running event loop, so not before there is one
            self._opened = triton_client(self._settings)
        return self._opened

    def _checked(self, version: int, rows: int, answer: Any) -> NDArray[np.float32]:
        try:
            scores = answer.as_numpy(OUTPUT)
        except ValueError:  # bytes that do not fill the shape they claim
            scores = None
        return check_scores(self._name, version, scores, (rows, self._outputs))
