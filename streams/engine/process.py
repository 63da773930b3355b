"""An application as a process: event loop, signals, exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop
from faust import Worker

from streams.engine.app import BatchApp
from streams.errors import Halted


def run(build: Callable[[], BatchApp], log_level: str) -> None:
    """Run until SIGINT or SIGTERM. Exits the process; with a code above 0 after a crash.

    Raises:
        Halted: the work has stopped until a person has looked.
    """
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)  # where Faust's services look for it, from their construction on
    app = build()
    worker = Worker(
        app,
        loop=loop,
        quiet=True,
        loglevel=log_level,
        override_logging=False,
        redirect_stdouts=False,
    )
    try:
        worker.execute_from_commandline()
    except SystemExit:
        if isinstance(app.crash_reason, Halted):
            raise app.crash_reason from None
        raise
