"""What Triton is told about a pipeline's model, and by whom: its file, and its control."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.layout import Layout
from streams.spec.triton import TritonConfig, read_config


class Control(Protocol):
    """Loading and unloading of a pipeline's models; `TritonControls` is one.

    A model without a name is the pipeline's first.
    """

    async def alive(self) -> None:
        """Return when the server answers. Raises `Unavailable`."""
        ...

    async def load(self, model: str = "") -> None:
        """Serve what a model's `config.pbtxt` names. Raises `ModelError`, `Unavailable`."""
        ...

    async def unload(self, model: str = "") -> None:
        """Serve nothing of a model. Raises `Unavailable`."""
        ...

    async def ready(self, version: int, model: str = "") -> bool:
        """Whether a model's version is ready. Raises `Unavailable`."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Configuration:
    """Makes the `config.pbtxt` of a pipeline's models."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        policy = pipeline.policies.infer
        self.least = policy.instances or settings.triton_instances
        """Instances of each version, where nobody has raised them."""
        self.most = max(self.least, policy.most_instances or 0)
        self._pipeline = pipeline

    def instances(self, now: Iterable[str]) -> int:
        """As many as the present files say, within the policy's bounds."""
        found = [config.instances for text in now if (config := read_config(text))]
        return min(max(self.least, *found, 0), self.most)

    def text(self, model: str, layout: Layout, versions: Iterable[int], instances: int) -> str:
        """The file of a model that serves exactly these versions, which take rows so laid out."""
        pipeline = self._pipeline
        return TritonConfig(
            model,
            layout.tensors,
            pipeline.model.outputs,
            tuple(versions),
            instances,
            pipeline.policies.infer,
        ).text()
