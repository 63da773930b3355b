"""How Triton runs a pipeline's model: instances, dynamic batching, rate limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from streams.errors import PipelineError
from streams.spec.declared import check_fields

_RESOURCE = re.compile(r"\w+")


@dataclass(frozen=True)
class Batching:
    """Triton's dynamic batching: requests of several workers are run together.

    A worker sends a whole micro-batch in a request already: it helps where there are many workers.
    """

    delay: int = 0
    """Longest time that a request waits for others, in microseconds."""
    sizes: tuple[int, ...] = ()
    """Rows that are run at once without waiting for more; empty: as many as there are."""
    queue: int = 0
    """Most requests that wait; others are refused, and asked elsewhere or again. 0: no limit."""
    timeout: int = 0
    """Longest time that a request waits before it is refused, in microseconds. 0: no limit."""

    def __post_init__(self) -> None:
        check_fields(self, "policies.infer.batching")
        for name in ("delay", "queue", "timeout"):
            if getattr(self, name) < 0:
                raise PipelineError(
                    f"policies.infer.batching.{name}", "is below 0", "use 0 or more"
                )
        if any(size < 1 for size in self.sizes):
            raise PipelineError(
                "policies.infer.batching.sizes", f"{self.sizes} has no rows", "use 1 or more"
            )


@dataclass(frozen=True)
class Infer:
    """How Triton runs the pipeline's model."""

    instances: int | None = None
    """Requests that Triton works on at a time, for each version and GPU (or for the CPU); None:
    `DRIFTLOOP_TRITON_INSTANCES`."""
    most_instances: int | None = None
    """`driftloop up --workers auto` raises them up to so many, where Triton limits; None: never."""
    batching: Batching | None = None
    """Dynamic batching; None: each request is run by itself."""
    resources: Mapping[str, int] = field(default_factory=dict)
    """What an instance takes of Triton's resources while it runs, by name: Triton's rate limiter,
    which `tritonserver --rate-limit=execution_count --rate-limit-resource=...` turns on."""
    priority: int = 0
    """Whose turn it is where models wait for resources: 1 comes first, 2 gets half as many; 0: as
    Triton has it."""

    def __post_init__(self) -> None:
        check_fields(self, "policies.infer")
        if self.batching is not None and not isinstance(self.batching, Batching):
            raise PipelineError(
                "policies.infer.batching", f"{self.batching!r} is none", "write Batching(...)"
            )
        for name in ("instances", "most_instances"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PipelineError(f"policies.infer.{name}", "is below 1", "use 1 or more")
        if self.instances and self.most_instances and self.most_instances < self.instances:
            raise PipelineError(
                "policies.infer.most_instances",
                f"{self.most_instances} is below instances={self.instances}",
                "use as many at least",
            )
        if self.priority < 0:
            raise PipelineError("policies.infer.priority", "is below 0", "use 0 or more")
        for name, count in self.resources.items():
            if not _RESOURCE.fullmatch(name) or count < 1:
                raise PipelineError(
                    "policies.infer.resources",
                    f"{name!r}: {count} cannot be",
                    'write {"name": 1}: letters, digits and _, and 1 or more',
                )
