"""Servers of a benchmark's own, gone when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from streams.settings import Settings, load_settings
from streams.telemetry import configure_logging
from tests.stack import own_stack
from workers.devstack.stack import Stack
from workers.fetching import Notify


@contextmanager
def servers(
    partitions: int = 4, report: Notify = lambda line: None
) -> Iterator[tuple[Stack, Settings]]:
    """Kafka, Triton and Valkey in a temporary directory, and settings that lead to them."""
    configure_logging(load_settings().model_copy(update={"log_level": "WARNING"}))
    with (
        TemporaryDirectory(prefix="driftloop-bench-") as home,
        # rivals know no secrets
        own_stack(Path(home), report, private=False, partitions=partitions) as (stack, settings),
    ):
        yield stack, settings
