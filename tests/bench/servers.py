"""What every benchmark needs: servers of its own, a model that serves, CPU times by process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from pydantic import SecretStr

from streams.ledger import Serving
from streams.settings import Settings
from streams.spec import Pipeline
from streams.transport.clients import ensure_topics
from tests.models import manifest
from workers.devstack.stack import Stack
from workers.ledger import append, entry
from workers.publisher import Publisher


@contextmanager
def servers(report: bool = False) -> Iterator[tuple[Stack, Settings]]:
    """Kafka, Triton and Valkey in a temporary directory, and settings that lead to them."""
    with TemporaryDirectory(prefix="driftloop-bench-") as home:
        own = Settings(state_dir=Path(home), model_repository=Path(home) / "models")
        own.model_repository.mkdir()
        stack = Stack(own, print if report else lambda line: None)
        with stack as at:
            addresses = {"kafka": at.kafka, "triton": at.triton, "redis": SecretStr(at.redis)}
            yield stack, own.model_copy(update=addresses)


def network_of(pipeline: Pipeline) -> bytes:
    """The pipeline's own network as ONNX, with the weights that a seed draws."""
    import torch

    from workers.networks import Normalise, Served, build, export

    torch.manual_seed(1)
    features = len(pipeline.feature_names)
    plain = Normalise(np.zeros(features), np.ones(features))
    return export(Served(plain, build(pipeline), np.zeros(pipeline.model.outputs)), features)


async def serve_first_version(settings: Settings, pipeline: Pipeline) -> None:
    """Create the pipeline's topics, and publish and promote a first version."""
    await ensure_topics(settings, pipeline)
    data = network_of(pipeline)
    first = manifest(pipeline, 1, data)
    publisher = Publisher(settings, pipeline)
    try:
        publisher.stage(first, data, "")
        await publisher.serve(1, Serving())
    finally:
        await publisher.close()
    await append(settings, pipeline, entry("promote", first, Serving(), "first"))


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a process and its children have used."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        times = [member.cpu_times() for member in family]
    except psutil.NoSuchProcess:
        return 0.0
    return float(sum(spent.user + spent.system for spent in times))


def machine() -> dict[str, str | int]:
    """What the figures were taken on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "?")
    memory = psutil.virtual_memory().total
    return {"cpu": name, "cores": os.cpu_count() or 0, "memory_gib": round(memory / 2**30)}
