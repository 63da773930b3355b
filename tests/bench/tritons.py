"""A stand-in for Triton: its protocol, on a real gRPC server, and a fixed time for a request."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from streams.spec.model import OUTPUT
from streams.spec.triton import read_config
from workers.devstack.servers import free_port
from workers.releases.repository import Repository

_NS = 1e9


class FixedTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Each instance answers one request after another, each in the same time."""

    def __init__(self, seconds: float, repository: Repository | None = None) -> None:
        """Without a repository it has every version, and one instance."""
        self.seconds = seconds
        self.answered = 0
        self.address = f"127.0.0.1:{free_port()}"
        self.free = [0.0]
        """When each instance will have done what it has been given, by the loop's clock."""
        self._repository = repository
        self._versions = list[int]()
        self._queued = 0.0
        self._server: Any = None

    async def start(self) -> None:
        """Take requests; again at the same address where it was stopped."""
        self._server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def die(self) -> None:
        """Answer nothing more: what is under way fails."""
        await self._server.stop(None)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Scores of zero, once the first instance that is free has had its time."""
        clock = asyncio.get_running_loop().time
        came, first = clock(), min(range(len(self.free)), key=lambda i: self.free[i])
        begun = max(came, self.free[first])
        self._queued += begun - came
        self.free[first] = done = begun + self.seconds
        await asyncio.sleep(done - clock())
        self.answered += 1
        rows = request.inputs[0].shape[0]
        scores = service_pb2.ModelInferResponse.InferOutputTensor(
            name=OUTPUT, datatype="FP32", shape=[rows, 1]
        )
        return service_pb2.ModelInferResponse(
            model_name=request.model_name, outputs=[scores], raw_output_contents=[bytes(4 * rows)]
        )

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        """What `config.pbtxt` says from now on: instances that stay go on with what they have."""
        assert self._repository is not None
        config = read_config(self._repository.config() or "")
        assert config is not None, "what a publisher writes can be read"
        self._versions = list(config.versions)
        self.free = [*self.free, *[0.0] * config.instances][: config.instances]
        return service_pb2.RepositoryModelLoadResponse()

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        """The versions that are loaded."""
        name = self._repository.name if self._repository else ""
        loaded = [
            service_pb2.RepositoryIndexResponse.ModelIndex(name=name, version=str(v), state="READY")
            for v in self._versions
        ]
        return service_pb2.RepositoryIndexResponse(models=loaded)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Whether a version is loaded."""
        ready = self._repository is None or int(request.version or 0) in self._versions
        return service_pb2.ModelReadyResponse(ready=ready)

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        """How many instances there are."""
        group = model_config_pb2.ModelInstanceGroup(count=len(self.free))
        return service_pb2.ModelConfigResponse(
            config=model_config_pb2.ModelConfig(name=request.name, instance_group=[group])
        )

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        """What was counted, as Triton counts it."""
        worked = self.answered * self.seconds

        def spent(seconds: float) -> Any:
            return service_pb2.StatisticDuration(count=self.answered, ns=round(seconds * _NS))

        told = service_pb2.InferStatistics(
            success=spent(worked + self._queued),
            queue=spent(self._queued),
            compute_infer=spent(worked),
        )
        batch = service_pb2.InferBatchStatistics(batch_size=1, compute_infer=spent(worked))
        counted = [
            service_pb2.ModelStatistics(
                name=request.name, version=str(v), inference_stats=told, batch_stats=[batch]
            )
            for v in self._versions
        ]
        return service_pb2.ModelStatisticsResponse(model_stats=counted)
