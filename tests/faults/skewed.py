"""A worker whose clock is wrong: `python -m tests.faults.skewed SECONDS ROLE MODULE`.

The worker is the product's own; the time of day, wherever it asks for it, is so many seconds ahead.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from types import SimpleNamespace


def main(arguments: list[str]) -> None:
    """Set the clock and run the worker."""
    seconds, role, module = float(arguments[0]), arguments[1], arguments[2]
    install(seconds)
    sys.argv = ["driftloop", role, module]
    from workers.cli import main as driftloop

    driftloop()


def install(seconds: float) -> None:
    """Set the clock of this process ahead, or back.

    gRPC passes deadlines by that clock to code that reads the machine's: it keeps the right one.
    """
    right = time.time
    import_module("grpc.aio._utils").__dict__["time"] = SimpleNamespace(time=right)
    time.time = lambda: right() + seconds
    time.time_ns = lambda: int(time.time() * 1e9)


if __name__ == "__main__":
    main(sys.argv[1:])
