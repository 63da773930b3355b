"""Stops a worker when too many of the latest records are bad.

One bad record costs one dead letter. Many in a row mean that the producer, or the pipeline, has
changed. Emptying the topic into the dead letters would then help nobody.
"""

from __future__ import annotations

from collections import deque

from streams import telemetry
from streams.errors import TooManyInvalid
from streams.spec import Pipeline


class InvalidBreaker:
    """Follows the share of bad records among the latest of one partition."""

    def __init__(self, pipeline: Pipeline, partition: int) -> None:
        self._name = pipeline.name
        self._partition = partition
        self._limit = pipeline.policies.invalid
        self._batches: deque[tuple[int, int]] = deque()
        self._records = 0
        self._bad = 0

    def observe(self, records: int, bad: int, example: str) -> None:
        """Count a micro-batch, before anything of it is written.

        `example` says what was wrong with one of its bad records.

        Raises:
            TooManyInvalid: of the latest records, once there are enough, too many are bad.
        """
        self._batches.append((records, bad))
        self._records += records
        self._bad += bad
        while self._records - self._batches[0][0] >= self._limit.over:
            first, first_bad = self._batches.popleft()
            self._records -= first
            self._bad -= first_bad
        share = self._bad / max(self._records, 1)
        telemetry.INVALID_RATIO.labels(self._name, str(self._partition)).set(share)
        if bad and self._records >= self._limit.over and share > self._limit.ratio:
            raise TooManyInvalid(self._name, self._partition, share, self._records, example)
