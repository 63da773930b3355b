"""Cancels tasks until they have ended."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN = 2.5
"""Seconds until a task that still runs is cancelled again; a task ends well within them."""


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended, by whatever; results and errors stay with them.

    One cancellation may not be enough: code that cancels its own task and awaits it can mistake a
    cancellation from outside for that one, and continue (aiokafka did, `docs/faust.md`, A19). A
    rebalance, which has to wait for the end, would then wait for ever.
    """
    going_on = set(tasks)
    while going_on:
        for task in going_on:
            task.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=_AGAIN)
