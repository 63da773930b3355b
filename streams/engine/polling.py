"""What a poll brings, and how much a partition takes on at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import faust

from streams.ports.batches import SourceRecord


@dataclass(frozen=True, slots=True)
class Fetched:
    """Consecutive records of one partition. Those of one poll are one Faust event."""

    topic: str
    partition: int
    records: list[SourceRecord]
    received: float
    """Monotonic time at which they were fetched."""
    generation: int
    """The consumer group's generation when they were fetched."""


_COMMITS_PER_SECOND = 200
"""Most commits of one worker. A transaction costs it and the broker about 2 ms, however full."""


@dataclass(frozen=True)
class Limits:
    """How much a partition takes on at a time."""

    batch_records: int = 2048
    batch_bytes: int = 8 << 20
    """Most bytes of a micro-batch's records; one that has more by itself is a micro-batch."""
    batch_wait: float = 0.005
    """Most seconds that records wait at the broker for more, from the oldest on."""
    span: float = 0.1
    """Seconds from the first uncommitted output to the end of its commit."""

    @property
    def queued_records(self) -> int:
        """Above this a partition is paused."""
        return 4 * self.batch_records

    @property
    def queued_bytes(self) -> int:
        """Above this a partition is paused, however few records it has brought."""
        return 2 * self.batch_bytes

    @property
    def uncommitted_bytes(self) -> int:
        """So many bytes of records are committed at once, however short the time."""
        return 2 * self.batch_bytes

    def shared_by(self, lanes: int) -> Limits:
        """The limits of one of this many lanes: with more lanes, each commits less often."""
        return replace(self, span=max(self.span, lanes / _COMMITS_PER_SECOND))


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Passes a poll's `Fetched` through Faust as the value of one event, undecoded."""

    def compile(
        self,
        app: Any,
        *,
        on_key_decode_error: Any,
        on_value_decode_error: Any,
        default_propagate: bool = False,
    ) -> Any:
        """Return Faust's decode function for a topic."""
        del on_key_decode_error, on_value_decode_error, default_propagate

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            del propagate
            return app.create_event(None, message.value, {}, message)

        return decode
