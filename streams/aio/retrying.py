"""Retries while a server is away, as every stage of the online path does."""

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

PASSING = (Unavailable, ModelError)
"""A server is away; the champion is unfit, until it is rolled back."""


async def until_available(
    pipeline: str,
    stage: str,
    call: Callable[[], Awaitable[T]],
    deadline: float | None = None,
    passing: tuple[type[Exception], ...] = PASSING,
) -> T:
    """The call's result, repeated with back-off (50 ms to 2 s) while it fails for outside reasons.

    Those are in `passing`. It never gives up, on purpose: an event waits; it is not dropped.
    Only where there is a `deadline` (monotonic), the first error after it is raised, for the caller
    to report.
    """
    try:
        return await call()
    except passing as error:
        # tenacity comes in only now: it costs as much as a small micro-batch's work
        failed: list[Exception] = [error]
        reason = str(error)

    async def attempt() -> T:
        if failed:
            raise failed.pop()
        return await call()

    def report(state: RetryCallState) -> None:
        nonlocal reason
        telemetry.RETRIES.labels(pipeline, stage).inc()
        reason = str(state.outcome.exception() if state.outcome else None)
        write = log.warning if deadline is None else log.debug
        write("waiting", stage=stage, attempt=state.attempt_number, error=reason)

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(passing),
        wait=wait_exponential_jitter(multiplier=0.05, max=2.0, jitter=0.05),
        stop=lambda _: deadline is not None and time.monotonic() >= deadline,
        before_sleep=report,
        reraise=True,
    )
    result: T = await retrying(attempt)
    write = log.info if deadline is None else log.debug
    write("no longer waiting", stage=stage, error=reason)
    return result
