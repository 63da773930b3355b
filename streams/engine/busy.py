"""What lanes tell of their work: how much there was, and how long the worker was busy with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streams import telemetry


class WorkMeter:
    """Counts a worker's work. Its lanes share one: they run side by side.

    The worker is busy while at least one lane works on a micro-batch or a commit, whatever it waits
    for meanwhile (Triton, Redis, Kafka). Records over busy seconds are its true processing rate
    (Kalavri et al., "Three steps is all you need", OSDI 2018).
    """

    def __init__(self, pipeline: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._working = 0
        self._since = 0.0
        self._busy = telemetry.BUSY_SECONDS.labels(pipeline)
        self._batches = telemetry.BATCH_RECORDS.labels(pipeline)
        self._produce = telemetry.STAGE_SECONDS.labels(pipeline, "produce")
        self._commit = telemetry.STAGE_SECONDS.labels(pipeline, "commit")

    @contextmanager
    def working(self) -> Iterator[None]:
        """While a lane works."""
        self._count()
        self._working += 1
        try:
            yield
        finally:
            self._count()
            self._working -= 1

    def batch(self, records: int) -> None:
        """A micro-batch of so many records is done."""
        self._batches.observe(records)

    def produced(self, seconds: float) -> None:
        """A micro-batch's outputs were handed to the writer."""
        self._produce.observe(seconds)

    def committed(self, seconds: float) -> None:
        """Outputs and offsets were committed."""
        self._commit.observe(seconds)

    def _count(self) -> None:
        now = self._clock()
        if self._working:
            self._busy.inc(now - self._since)
        self._since = now
