"""Stops a worker when too many of the latest records are bad.

One bad record costs one dead letter. Many in a row mean that the producer, or the pipeline, has
changed. Emptying the topic into the dead letters would then help nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import structlog

from streams import telemetry
from streams.errors import BadRecord, TooManyInvalid
from streams.spec import Pipeline

log = structlog.get_logger(__name__)


class FirstOfEachCause:
    """Says in the log which records of a topic are bad: the first of each cause."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._said: set[str] = set()

    def observe(self, errors: Sequence[BadRecord]) -> None:
        """Take the errors of bad records in."""
        for error in errors:
            if error.cause not in self._said:
                log.warning(
                    "bad records become dead letters, see `driftloop dlq list`",
                    topic=self._topic,
                    cause=error.cause,
                    error=error.detail,
                )
            self._said.add(error.cause)


class InvalidBreaker:
    """Follows the share of bad records among the latest of one partition of a topic."""

    def __init__(self, pipeline: Pipeline, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        self._limit = pipeline.policies.invalid
        self._share = telemetry.INVALID_RATIO.labels(pipeline.name, topic, str(partition))
        self._batches: deque[tuple[int, int]] = deque()
        self._records = 0
        self._bad = 0
        self._first = FirstOfEachCause(topic)

    def observe(self, records: int, errors: Sequence[BadRecord]) -> None:
        """Count a micro-batch, before anything of it is written; `errors` are of its bad records.

        The first record of each cause is said in the log.

        Raises:
            TooManyInvalid: of the latest records, once there are enough, too many are bad.
        """
        bad = len(errors)
        self._batches.append((records, bad))
        self._records += records
        self._bad += bad
        while self._records - self._batches[0][0] >= self._limit.over:
            first, first_bad = self._batches.popleft()
            self._records -= first
            self._bad -= first_bad
        self._first.observe(errors)
        share = self._bad / max(self._records, 1)
        self._share.set(share)
        if errors and self._records >= self._limit.over and share > self._limit.ratio:
            raise TooManyInvalid(self._topic, self._partition, share, self._records, str(errors[0]))
