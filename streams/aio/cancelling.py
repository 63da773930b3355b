"""Cancels tasks until they have ended."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN = 2.5
"""Seconds after which a task that goes on is cancelled once more: longer than one takes to end."""


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended, by whatever; results and errors stay with them.

    Once may not do: code that cancels a task of its own and awaits it can take a cancellation from
    outside for that one's, and go on (aiokafka's did, `docs/faust.md`, A19). Who has to wait for
    the end, as a rebalance has, would wait for ever.
    """
    going_on = set(tasks)
    while going_on:
        for task in going_on:
            task.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=_AGAIN)
