"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN = 0.5
"""Seconds after which a task that goes on is cancelled once more: long enough to close a client."""


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended, by whatever; results and errors stay with them.

    Once is not enough: aiokafka's clients, when closed, cancel tasks of their own and wait for
    them, and take a cancellation that comes meanwhile for one of those. Who had closed the client
    went on, and who had cancelled waited for ever.
    """
    going_on = set(tasks)
    while going_on:
        for task in going_on:
            task.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=_AGAIN)
