"""The scoring application for Faust's own command line: `faust -A streams.app worker`.

The pipeline is the module named by `DRIFTLOOP_PIPELINE`. `driftloop score` runs the same.
"""

from __future__ import annotations

from typing import Any

from streams.settings import load_settings
from streams.spec import load_pipeline
from streams.telemetry import configure_logging
from streams.wiring import scoring_app


def __getattr__(name: str) -> Any:
    """Build `app` when it is asked for: importing this module reads no settings."""
    if name != "app":
        raise AttributeError(name)
    settings = load_settings()
    pipeline = load_pipeline(settings.pipeline)
    configure_logging(settings, pipeline=pipeline.name)
    globals()["app"] = application = scoring_app(settings, pipeline)
    return application
