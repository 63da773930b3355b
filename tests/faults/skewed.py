"""A worker whose clock is wrong: `python -m tests.faults.skewed SECONDS ROLE MODULE`.

The worker is the product's own; the time of day, wherever it asks for it, is so many seconds ahead.
"""

from __future__ import annotations

import sys
import time


def main(arguments: list[str]) -> None:
    """Set the clock and run the worker."""
    seconds, role, module = float(arguments[0]), arguments[1], arguments[2]
    install(seconds)
    sys.argv = ["driftloop", role, module]
    from workers.cli import main as driftloop

    driftloop()


def install(seconds: float) -> None:
    """Set the clock of this process ahead, or back."""
    right = time.time
    time.time = lambda: right() + seconds
    time.time_ns = lambda: int(time.time() * 1e9)


if __name__ == "__main__":
    main(sys.argv[1:])
