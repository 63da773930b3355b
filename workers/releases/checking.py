"""What a version answers on each Triton, held against its own file, before it serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from streams.adapters.triton.client import Overloaded
from streams.aio.retrying import until_available
from streams.errors import ModelError
from streams.ports.models import Scorer
from streams.records import Manifest
from streams.spec import Pipeline
from streams.spec.layout import Rows
from streams.versions import pick
from workers.releases.onnx_files import run, session
from workers.releases.probes import probes

TOLERANCE = 1e-3
"""Largest difference between a score of Triton and of onnxruntime here, as a share of a value's
size: a GPU may round more."""
_WARM_UP = (1, 32, 1024)
"""Rows of the warm-up requests; several at a time, so that every instance gets some."""
_PATIENCE = 10.0
"""Seconds for which a request is repeated that Triton refuses, as its queue is full."""


async def check_answers(
    pipeline: Pipeline, scorers: Iterable[Scorer], version: int, manifest: Manifest, data: bytes
) -> None:
    """Warm a version up, and compare its answers with onnxruntime's on the file's bytes.

    Raises:
        ModelError: they differ, or it answers wrongly.
        Unavailable: Triton is away; `NotServing` where it does not serve the version.
    """
    rows = probes(pipeline, manifest)
    expected = run(session(data), pick(pipeline, manifest).of(rows))
    size = float(np.abs(expected).max()) if pipeline.predicts.numeric else 1.0

    async def answer(scorer: Scorer, part: Rows) -> NDArray[np.float32]:
        async def ask() -> NDArray[np.float32]:
            return await scorer.infer(version, part)

        ends = time.monotonic() + _PATIENCE
        return await until_available(pipeline.name, "check", ask, ends, (Overloaded,))

    asked = list(scorers)
    for count in _WARM_UP:
        again = np.arange(count) % len(rows)
        part, wanted = rows[again], expected[again]
        answers = await asyncio.gather(*(answer(one, part) for one in asked for _ in range(4)))
        # NumPy's maximum is not a number where one difference is none
        difference = np.max([np.abs(a - wanted).max(initial=0.0) for a in answers])
        if not difference <= TOLERANCE * size:
            raise ModelError(f"its answers differ from onnxruntime's by {difference:.3g}")
