"""A worker that kills itself: `python -m tests.faults.crash_points POINT PASSES ROLE MODULE`.

The worker is the product's own; one method is wrapped so that the process gets SIGKILL, without a
chance to tidy up, at the given pass of the point.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.adapters.redis.state import RedisFeatureState
from streams.adapters.triton.scorer import TritonScorer
from streams.engine.group import GroupMember
from streams.engine.writers import IdempotentWriter, TransactionalWriter
from tests.faults.schedule import Kind

_UNDER_WAY = 0.002
"""Seconds after which a commit's last request has left, and its answer as a rule not come."""

Crash = Callable[[], None]


def main(arguments: list[str]) -> None:
    """Install the crash and run the worker."""
    point, passes = Kind(arguments[0]), int(arguments[1])
    install(point, countdown(passes, _die))
    sys.argv = ["driftloop", *arguments[2:]]
    from workers.cli import main as driftloop

    driftloop()


def install(point: Kind, crash: Crash) -> None:
    """Make every pass of a point call `crash`.

    Raises:
        ValueError: that kind of fault is not a point.
    """
    match point:
        case Kind.after_fold:
            _after(RedisFeatureState, "fold", crash)
        case Kind.after_inference:
            _after(TritonScorer, "infer", crash)
        case Kind.after_produce:
            _after(TransactionalWriter, "_send", crash)
            _after(IdempotentWriter, "write", crash)
        case Kind.before_commit:
            _before(TransactionalWriter, "commit", crash)
            _before(IdempotentWriter, "commit", crash)
        case Kind.in_commit:
            _before(AIOKafkaProducer, "commit_transaction", crash)
            _before(GroupMember, "commit", crash)
        case Kind.commit_sent:
            _before(AIOKafkaProducer, "commit_transaction", lambda: _soon(crash))
            _before(GroupMember, "commit", lambda: _soon(crash))
        case _:
            raise ValueError(f"{point} is not a point in a worker")


def countdown(passes: int, crash: Crash) -> Crash:
    """A function that calls `crash` the `passes`-th time that it is called, and after."""
    left = passes

    def count() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            crash()

    return count


def _after(owner: type, name: str, crash: Crash) -> None:
    original = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        answer = await original(*args, **kwargs)
        crash()
        return answer

    setattr(owner, name, wrapped)


def _before(owner: type, name: str, crash: Crash) -> None:
    original = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        crash()
        return await original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _soon(crash: Crash) -> None:
    threading.Timer(_UNDER_WAY, crash).start()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
