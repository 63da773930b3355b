"""Running an application as a process: event loop, logging, metrics, signals, exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
import uvloop
from faust import Worker

from streams.errors import Halted
from streams.settings import Settings
from streams.spec import Pipeline
from streams.telemetry import configure_logging, serve_metrics
from streams.transport.app import BatchApp

log = structlog.get_logger(__name__)


def run_app(
    build: Callable[[Settings, Pipeline], BatchApp],
    settings: Settings,
    pipeline: Pipeline,
    role: str,
) -> None:
    """Run until SIGINT or SIGTERM. Exits the process; with a code above 0 after a crash.

    Raises:
        Halted: the work has stopped until a person has looked.
    """
    configure_logging(settings, pipeline=pipeline.name, role=role)
    port = serve_metrics(settings)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)  # where Faust's services look for it, from their construction on
    app = build(settings, pipeline)
    log.info("started", metrics=f"http://{settings.metrics_host}:{port}/metrics",
             group=app.work.group, delivery=delivery(app))  # fmt: skip
    worker = Worker(
        app,
        loop=loop,
        quiet=True,
        loglevel=settings.log_level,
        override_logging=False,
        redirect_stdouts=False,
    )
    try:
        worker.execute_from_commandline()
    except SystemExit:
        if isinstance(app.crash_reason, Halted):
            raise app.crash_reason from None
        raise


def delivery(app: BatchApp) -> str:
    """The delivery mode that an application runs in."""
    return "exactly_once" if app.work.exactly_once else "at_least_once"
