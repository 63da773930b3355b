"""Loops that share a state directory: one for each pipeline, and a stack that serves all of them.

What is held is a lock on a file, which the kernel releases however a process ends.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from streams.errors import ConfigurationError

_AGAIN = 0.2


@contextmanager
def only_loop(state_dir: Path, pipeline: str) -> Iterator[Path]:
    """Hold the pipeline's place in a state directory; gives the folder of its logs.

    Raises:
        ConfigurationError: another loop holds it.
    """
    home = state_dir / "logs" / pipeline
    with _open(home / "up.lock") as file:
        if not _lock(file, fcntl.LOCK_EX):
            raise ConfigurationError(
                f"{pipeline} is up already in {state_dir} - use that one (`driftloop score` adds a "
                "worker), end it, or set DRIFTLOOP_STATE_DIR to another directory"
            )
        yield home


@contextmanager
def using_stack(state_dir: Path) -> Iterator[None]:
    """Use the stack of a state directory: whoever runs it waits before it ends it."""
    with _users(state_dir) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def in_use(state_dir: Path) -> bool:
    """Whether a loop of another process uses the stack of a state directory."""
    with _users(state_dir) as file:
        return not _lock(file, fcntl.LOCK_EX)


async def until_unused(state_dir: Path, cut_short: asyncio.Event) -> None:
    """Return when no other loop uses the stack any more, or when that is cut short."""
    while in_use(state_dir) and not cut_short.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(cut_short.wait(), _AGAIN)


def _users(state_dir: Path) -> IO[bytes]:
    return _open(state_dir / "stack" / "users.lock")


def _open(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def _lock(file: IO[bytes], how: int) -> bool:
    """Whether it could be had; it is held until the file is closed."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
