"""What each rival is told on its command line, and what all of them do alike."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient as AsyncInferenceServerClient

from streams.spec.layout import MEANT, Rows, tensors_of
from tests.bench.peers import windows
from tests.bench.peers.pipelines import AsyncRedisPipeline, RedisPipeline
from tests.bench.workloads import (
    VERSION,
    WORKLOADS,
    Batch,
    Workload,
    payment_vectors,
)

COMMIT_SECONDS = 1.0
"""Between commits of a hand-written loop: flushing after each batch would cost it dearly."""
_REQUESTED = [InferRequestedOutput("scores")]
_INFER = {"model_version": str(VERSION), "outputs": _REQUESTED, "client_timeout": 5.0}


@dataclass(frozen=True)
class Job:
    """What to read, ask and write."""

    workload: Workload
    kafka: str
    triton: str
    redis: str
    group: str
    predictions: str
    """Topic of the predictions."""
    scored: str
    """Topic of what was scored."""

    @classmethod
    def from_arguments(cls, doc: str | None) -> Job:
        """Read the command line of a rival's program, whose docstring is its help."""
        parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
        parser.add_argument("--workload", choices=list(WORKLOADS), required=True)
        parser.add_argument("--kafka", required=True, help="host:port")
        parser.add_argument("--triton", required=True, help="host:port, gRPC")
        parser.add_argument("--redis", required=True, help="URL")
        parser.add_argument("--group", required=True, help="consumer group")
        parser.add_argument("--predictions", required=True, help="topic to write")
        parser.add_argument("--scored", required=True, help="topic to write")
        given = vars(parser.parse_args())
        return cls(**{**given, "workload": WORKLOADS[given["workload"]]})

    @property
    def source(self) -> str:
        """The topic of the events."""
        return self.workload.pipeline.topics.events


class Scorer:
    """A batch of events to its outputs, over blocking connections."""

    def __init__(self, job: Job) -> None:
        self._workload = job.workload
        self._triton = InferenceServerClient(job.triton)
        self._redis = RedisPipeline(job.redis) if job.workload.windows else None

    def __call__(
        self, values: Sequence[bytes | None], origins: Sequence[str]
    ) -> list[tuple[bytes, bytes]]:
        """Prediction and scored record of each event; an origin is `<partition>-<offset>`."""
        batch = self._workload.decode(values)
        rows = self._rows(batch)
        answer = self._triton.infer(self._workload.pipeline.name, _inputs(rows), **_INFER)
        return self._workload.outputs(batch, rows, answer.as_numpy("scores"), origins)

    def _rows(self, batch: Batch) -> Rows:
        if self._redis is None:
            return self._workload.rows(batch)
        replies = self._redis(windows.commands(batch))
        return payment_vectors(batch.columns, windows.aggregates(batch, replies))


class AsyncScorer:
    """The same for an event loop; to be made inside it."""

    def __init__(self, job: Job) -> None:
        self._workload = job.workload
        self._triton = AsyncInferenceServerClient(job.triton)
        self._redis = AsyncRedisPipeline(job.redis) if job.workload.windows else None

    async def __call__(
        self, values: Sequence[bytes | None], origins: Sequence[str]
    ) -> list[tuple[bytes, bytes]]:
        """Prediction and scored record of each event; an origin is `<partition>-<offset>`."""
        batch = self._workload.decode(values)
        rows = await self._rows(batch)
        name = self._workload.pipeline.name
        answer = await self._triton.infer(name, _inputs(rows), **_INFER)
        return self._workload.outputs(batch, rows, answer.as_numpy("scores"), origins)

    async def _rows(self, batch: Batch) -> Rows:
        if self._redis is None:
            return self._workload.rows(batch)
        replies = await self._redis(windows.commands(batch))
        return payment_vectors(batch.columns, windows.aggregates(batch, replies))


def _inputs(rows: Rows) -> list[Any]:
    request = []
    for name, tensor in tensors_of(rows).items():
        request.append(InferInput(name, list(tensor.shape), MEANT[tensor.dtype.str].triton))
        request[-1].set_data_from_numpy(tensor)
    return request
