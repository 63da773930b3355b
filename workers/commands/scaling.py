"""`scale`: how many workers the load asks for, told to who starts and stops them."""

from __future__ import annotations

import asyncio

from streams.settings import Settings
from streams.spec import Pipeline
from streams.telemetry import configure_logging, serve_metrics
from workers.environment import connected_settings, find_pipeline
from workers.processes.loop import stop_on_signals
from workers.processes.scaler import Scaler
from workers.terminal import Module, note


def scale(module: Module) -> None:
    """Tell how many workers the load asks for, as a gauge for Kubernetes (KEDA) to follow.

    `driftloop up --workers auto` needs none: it starts and stops workers itself.
    """
    pipeline = find_pipeline(module)
    settings = connected_settings(module, needs=("kafka",))
    asyncio.run(_run(settings, pipeline))


async def _run(settings: Settings, pipeline: Pipeline) -> None:
    scaler = Scaler(settings, pipeline)
    configure_logging(settings, pipeline=pipeline.name, role="scale")
    port = serve_metrics(settings)
    note(f"driftloop_wanted_workers is at http://{settings.metrics_host}:{port}/metrics")
    await scaler.run(stop_on_signals())
