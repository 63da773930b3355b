"""A pipeline that nobody scores for gives up its place in Triton."""

from __future__ import annotations

from collections.abc import Callable

from streams.adapters.triton.control import TritonControls
from streams.errors import DriftloopError
from streams.settings import Settings


async def unload(settings: Settings, pipeline: str, report: Callable[[str], None]) -> None:
    """Have no Triton hold the pipeline's models; the next worker that finds one missing loads it.

    One that cannot be unloaded stays: that costs memory and nothing else.
    """
    controls = TritonControls(settings, pipeline)
    try:
        await controls.unload_all()
    except DriftloopError as error:
        report(f"the model stays loaded, though nobody asks it: {error}")
    finally:
        await controls.close()
