"""Waiting out a server that is away: what every stage of the online path does."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from streams import telemetry
from streams.errors import ModelError, Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")


async def until_available(
    pipeline: str, stage: str, call: Callable[[], Awaitable[T]], deadline: float | None = None
) -> T:
    """The call's result, repeated with back-off (50 ms to 2 s) while it fails for outside reasons.

    These are `Unavailable` (a server is away) and `ModelError` (the champion is unfit, until it is
    rolled back). There is no end to it on purpose: an event waits; it is never given up. Only where
    there is a `deadline` (monotonic), the first error after it is raised, for the caller to report.
    """

    def report(state: RetryCallState) -> None:
        telemetry.RETRIES.labels(pipeline, stage).inc()
        error = state.outcome.exception() if state.outcome else None
        write = log.warning if deadline is None else log.debug
        write("waiting", stage=stage, attempt=state.attempt_number, error=str(error))

    retrying = AsyncRetrying(
        retry=retry_if_exception_type((Unavailable, ModelError)),
        wait=wait_exponential_jitter(multiplier=0.05, max=2.0, jitter=0.05),
        stop=lambda _: deadline is not None and time.monotonic() >= deadline,
        before_sleep=report,
        reraise=True,
    )

    async def attempt() -> T:
        return await call()

    return await retrying(attempt)
