"""Waiting for states, never for seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

Said = Callable[[], str]


class NotInTimeError(AssertionError):
    """A condition did not come to hold."""


def _pauses(what: str, within: float, said: Said) -> Iterator[float]:
    """Seconds to pause between looks: 2 ms at first, 50 ms later; fails after `within` seconds."""
    started, pause = time.monotonic(), 0.002
    while time.monotonic() - started < within:
        yield pause
        pause = min(pause * 1.5, 0.05)
    raise NotInTimeError(f"still not after {within} s: {what}\n{said()}")


async def until(
    condition: Callable[[], object | Awaitable[object]],
    what: str = "the condition holds",
    within: float = 60.0,
    said: Said = str,
) -> float:
    """Wait for a condition; returns the seconds that it took. Fails with what is `said` then."""
    started, pauses = time.monotonic(), _pauses(what, within, said)
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return time.monotonic() - started
        await asyncio.sleep(next(pauses))


def until_sync(
    condition: Callable[[], object], what: str = "the condition holds", within: float = 40.0
) -> None:
    """As `until`, where there is no event loop."""
    pauses = _pauses(what, within, str)
    while not condition():
        time.sleep(next(pauses))
