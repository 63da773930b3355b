"""Servers of a benchmark's own, gone when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr

from streams.settings import Settings
from streams.telemetry import configure_logging
from workers.devstack.stack import Stack


@contextmanager
def servers() -> Iterator[tuple[Stack, Settings]]:
    """Kafka, Triton and Valkey in a temporary directory, and settings that lead to them."""
    with TemporaryDirectory(prefix="driftloop-bench-") as home:
        own = Settings(
            state_dir=Path(home),
            model_repository=Path(home) / "models",
            kafka="",
            triton="",
            redis=SecretStr(""),
        )
        configure_logging(own.model_copy(update={"log_level": "WARNING"}))
        own.model_repository.mkdir()
        stack = Stack(own)
        with stack as at:
            addresses = {"kafka": at.kafka, "triton": at.triton, "redis": SecretStr(at.redis)}
            yield stack, own.model_copy(update=addresses)
