"""The workers of a pipeline, one process each: `python -m workers.roles ROLE MODULE`.

The supervisor starts them this way: nothing of the command line is loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import traceback
from enum import StrEnum

import structlog

from streams.errors import DriftloopError, Halted
from streams.kafka import workarounds
from streams.preflight import check
from streams.settings import Settings
from streams.spec import Pipeline
from streams.telemetry import configure_logging, serve_metrics
from workers.environment import connected_settings, find_pipeline
from workers.processes.loop import stop_on_signals
from workers.processes.supervisor import end_with_parent

log = structlog.get_logger(__name__)

_YIELDING = 19
"""The nice value of a process that takes what others leave."""


class Role(StrEnum):
    """What a worker does."""

    SCORE = "score"
    LABEL = "label"
    EVALUATE = "evaluate"
    SHADOW = "shadow"
    TRAINER = "trainer"


def run_role(role: Role, module: str) -> None:
    """Run a worker until SIGINT or SIGTERM.

    Raises:
        DriftloopError: in one line what is wrong, before work begins; `Halted` later as well.
    """
    pipeline, settings = find_pipeline(module), connected_settings(module)
    asyncio.run(check(settings, pipeline, role.value))
    configure_logging(settings, pipeline=pipeline.name, role=role.value)
    port = serve_metrics(settings)
    log.info("serving metrics", at=f"http://{settings.metrics_host}:{port}/metrics")
    _RUN[role](settings, pipeline)


def _score(settings: Settings, pipeline: Pipeline) -> None:
    from streams.wiring import run_scoring

    run_scoring(settings, pipeline)


def _label(settings: Settings, pipeline: Pipeline) -> None:
    from streams.wiring import run_labelling

    run_labelling(settings, pipeline)


def _evaluate(settings: Settings, pipeline: Pipeline) -> None:
    from streams.wiring import run_evaluation

    run_evaluation(settings, pipeline)


def _shadow(settings: Settings, pipeline: Pipeline) -> None:
    from streams.wiring import run_shadowing

    os.nice(_YIELDING)  # on a machine that is busy, those come first for whom somebody waits
    run_shadowing(settings, pipeline)


def _train(settings: Settings, pipeline: Pipeline) -> None:
    from workers.training.worker import run_trainer

    async def work() -> None:
        await run_trainer(settings, pipeline, stop_on_signals())

    asyncio.run(work())


# each loads what it needs by itself: no trainer loads Faust
_RUN = {
    Role.SCORE: _score,
    Role.LABEL: _label,
    Role.EVALUATE: _evaluate,
    Role.SHADOW: _shadow,
    Role.TRAINER: _train,
}


def main() -> None:
    """Run the worker that the arguments name; what ends it is the last line that it writes.

    The supervisor quotes that line.
    """
    end_with_parent()
    # until the worker sets up its logs: what a client says of a missing server, we say in one line
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    workarounds.apply()
    parser = argparse.ArgumentParser(prog="python -m workers.roles")
    parser.add_argument("role", choices=list(Role), type=Role)
    parser.add_argument("module", help="module that declares the pipeline")
    given = parser.parse_args()
    try:
        run_role(given.role, given.module)
    except DriftloopError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(Halted.EXIT_CODE if isinstance(error, Halted) else 1)
    except Exception as error:
        traceback.print_exc()
        said = " ".join(str(error).split())
        print(f"error: unforeseen: {type(error).__name__}: {said}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
