"""What Triton is told about a pipeline's model, and by whom: its file, and its control."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.triton import TritonConfig, read_config


class Control(Protocol):
    """Loading and unloading of a pipeline's model; `TritonControls` is one."""

    async def alive(self) -> None:
        """Return when the server answers. Raises `Unavailable`."""
        ...

    async def load(self) -> None:
        """Serve what `config.pbtxt` names. Raises `ModelError`, `Unavailable`."""
        ...

    async def unload(self) -> None:
        """Serve nothing. Raises `Unavailable`."""
        ...

    async def ready(self, version: int) -> bool:
        """Whether a version is ready. Raises `Unavailable`."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Configuration:
    """Makes a pipeline's `config.pbtxt`."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        policy = pipeline.policies.infer
        self.least = policy.instances or settings.triton_instances
        """Instances of each version, where nobody has raised them."""
        self.most = max(self.least, policy.most_instances or 0)
        self._pipeline = pipeline

    def instances(self, now: str | None) -> int:
        """As many as the present file says, within the policy's bounds."""
        found = read_config(now or "")
        return min(max(self.least, found.instances if found else 0), self.most)

    def text(self, versions: Iterable[int], now: str | None, instances: int = 0) -> str:
        """The file that serves exactly these versions, by so many instances; 0: as many as now."""
        pipeline = self._pipeline
        return TritonConfig(
            pipeline.name,
            pipeline.layout.tensors,
            pipeline.model.outputs,
            tuple(versions),
            instances or self.instances(now),
            pipeline.policies.infer,
        ).text()
