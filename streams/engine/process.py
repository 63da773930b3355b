"""An application as a process: event loop, signals, exit code."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable

import uvloop
from faust import Worker

from streams.engine.app import BatchApp


def run(build: Callable[[], BatchApp], log_level: str) -> None:
    """Run until SIGINT or SIGTERM; exits the process then.

    Raises:
        Exception: whatever ended the work: it could not start, or failed later.
    """
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)  # where Faust's services look for it, from their construction on
    app = build()
    # it would print a traceback, twice, and that it crashed: whoever called us says why
    logging.getLogger("faust.worker").setLevel(logging.CRITICAL + 1)
    worker = Worker(
        app,
        loop=loop,
        quiet=True,
        loglevel=log_level,
        override_logging=False,
        redirect_stdouts=False,
        stderr=io.StringIO(),
    )
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        reason = app.crash_reason or ended.__context__
        if ended.code and isinstance(reason, Exception):
            raise reason from None
        raise
