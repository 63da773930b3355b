"""The scoring application for Faust's own command line: `faust -A streams.app worker`.

The pipeline is the module named by `DRIFTLOOP_PIPELINE`. `driftloop score` runs the same.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from streams.engine.app import BatchApp
from streams.errors import DriftloopError
from streams.preflight import check
from streams.settings import load_settings
from streams.spec.loading import load_pipeline
from streams.telemetry import configure_logging, serve_metrics
from streams.wiring import scoring_app


def __getattr__(name: str) -> Any:
    """Build `app` when it is asked for: importing this module reads no settings."""
    if name != "app":
        raise AttributeError(name)
    try:
        globals()["app"] = application = _build()
    except DriftloopError as error:
        sys.exit(f"error: {error}")
    return application


def _build() -> BatchApp:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # we say it in one line
    settings = load_settings()
    pipeline = load_pipeline(settings.pipeline)
    asyncio.run(check(settings, pipeline, "score"))
    configure_logging(settings, pipeline=pipeline.name, role="score")
    serve_metrics(settings)
    asyncio.set_event_loop(asyncio.new_event_loop())  # the one that Faust will run
    return scoring_app(settings, pipeline)
