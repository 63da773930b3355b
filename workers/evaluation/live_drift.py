"""Drift by bucket and version: what `P.drift` says of what was served, beside the references.

Partitions are added up. A bucket is judged once it is over in all of them, and only of a version
that served in all of it: whoever served in the evening alone has other hours than its reference.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from streams.distributions import Distribution, Ints, Reference
from streams.kafka.reading import following
from streams.kafka.topics import topic_exists
from streams.ports.batches import SourceRecord
from streams.records import decoder
from streams.settings import Settings
from streams.spec import Drift, Pipeline
from streams.sums import Cell
from workers.evaluation.drift import BucketDrift, judge

_STOPPED = 7
"""A partition so many buckets behind the others is taken to have stopped."""
_GAP, _BY_CHANCE = 0.1, 1.36
"""A version's events may be spread over a bucket otherwise than all events are, by this share, and
by what a Kolmogorov-Smirnov test of 95 % allows so many events."""
_decode = decoder(Distribution).decode


class DriftRow(NamedTuple):
    """What a version served in a bucket."""

    start: float
    """Event time, seconds since 1970."""
    span: float
    version: int
    """0 for the fallback."""
    events: int
    share: float
    """Of the bucket's events."""
    fallback: float
    """The fallback's share of the bucket's events."""
    drift: BucketDrift | None
    """None where the version has no reference."""
    unjudged: str
    """Why there can be no alarm; empty where there can."""
    coverage: float = math.nan
    """Share of the matured examples whose label came as feedback; NaN without any."""
    label_delay: float = math.nan
    """Mean seconds from an event to the label that came."""

    @property
    def alarm(self) -> bool:
        """Whether it drifted."""
        return not self.unjudged and self.drift is not None and bool(self.drift.alarms)

    @property
    def end(self) -> float:
        """Event time at which the bucket is over."""
        return self.start + self.span

    def as_dict(self) -> dict[str, Any]:
        """Everything by name, for JSON; numbers that are not known are None."""
        drift = self.drift
        found = {name: value for name, value in self._asdict().items() if name != "drift"}
        found["alarm"] = self.alarm
        if drift is not None:
            found |= {"level": drift.level, "ratio": drift.ratio}
            found["columns"] = [_known(one._asdict()) for one in drift.columns]
        return _known(found)


class LiveDrift:
    """The cells of `P.drift` as they are now, by partition."""

    def __init__(self, policy: Drift) -> None:
        self._policy = policy
        self._cells: dict[tuple[int, float, int], Distribution] = {}
        """By partition, start and version."""
        self.expected: Collection[int] = ()
        """Partitions in which something was served."""

    def add(self, records: Iterable[SourceRecord]) -> None:
        """Take in records of `P.drift`, in the order of each partition."""
        for record in records:
            if record.value:
                cell = _decode(record.value)
                self._cells[record.partition, cell.start, cell.version] = cell

    def forget(self, before: float) -> None:
        """Drop cells that begin before an event time."""
        self._cells = {name: cell for name, cell in self._cells.items() if name[1] >= before}

    @property
    def watermark(self) -> float:
        """Event time up to which all partitions have been counted; -inf without any.

        One of those that are expected and of which nothing is counted yet is where the first began.
        """
        if not self._cells:
            return -math.inf
        earliest = min(start for _, start, _ in self._cells)
        newest = dict.fromkeys(self.expected, earliest)
        for (partition, *_), cell in self._cells.items():
            newest[partition] = max(newest.get(partition, earliest), cell.newest)
        span = max(cell.span for cell in self._cells.values())
        latest = max(newest.values())
        return min(at for at in newest.values() if at >= latest - _STOPPED * span)

    def rows(
        self, references: Mapping[int, Reference | None], only: int | None = None
    ) -> list[DriftRow]:
        """Every bucket and version, or those of one version, in the order of both."""
        watermark = self.watermark
        return [
            row
            for buckets in self._summed().values()
            for row in _rows(buckets, references, self._policy, watermark)
            if only is None or row.version == only
        ]

    def _summed(self) -> dict[float, list[Distribution]]:
        """The cells of each bucket, added up over partitions, by version."""
        found: dict[tuple[float, int], Distribution] = {}
        for _, cell in sorted(self._cells.items(), key=lambda one: one[0]):
            name = (cell.start, cell.version)
            found[name] = added(found[name], cell) if name in found else cell
        buckets: dict[float, list[Distribution]] = {}
        for (start, _), cell in sorted(found.items()):
            buckets.setdefault(start, []).append(cell)
        return buckets


def added(one: Distribution, other: Distribution) -> Distribution:
    """Two cells of one bucket and version as one."""

    def both(a: Iterable[Any], b: Iterable[Any]) -> list[Any]:
        first, second = np.array(a), np.array(b)
        whole = first + second if first.shape == second.shape else max(first, second, key=np.size)
        found: list[Any] = whole.tolist()
        return found

    return Distribution(
        start=one.start,
        span=one.span,
        version=one.version,
        newest=max(one.newest, other.newest),
        events=one.events + other.events,
        parts=both(one.parts, other.parts),
        counts=[both(a, b) for a, b in zip(one.counts, other.counts, strict=True)]
        if one.counts and other.counts
        else one.counts or other.counts,
        sums=both(one.sums, other.sums),
        outside=both(one.outside, other.outside),
    )


def with_labels(rows: Iterable[DriftRow], cells: Iterable[Cell]) -> Iterator[DriftRow]:
    """The rows with what `P.metrics` says of labels: how many came, and how late."""
    found: dict[tuple[float, int], tuple[int, int, float]] = {}
    for cell in cells:
        if not cell.slice:
            events, fed_back, delay = found.get((cell.start, cell.version), (0, 0, 0.0))
            found[cell.start, cell.version] = (
                events + cell.events,
                fed_back + cell.fed_back,
                delay + cell.delay,
            )
    for row in rows:
        events, fed_back, delay = found.get((row.start, row.version), (0, 0, 0.0))
        yield row._replace(
            coverage=fed_back / events if events else math.nan,
            label_delay=delay / fed_back if fed_back else math.nan,
        )


async def read_drift(settings: Settings, pipeline: Pipeline) -> LiveDrift:
    """All that `P.drift` holds. Raises `Unavailable`."""
    found = LiveDrift(pipeline.policies.drift)
    topic = pipeline.topics.drift
    if await topic_exists(settings, topic):
        async with following(settings, topic) as follower:
            found.add(await follower.read_to_end())
            found.expected = served(await follower.ends(pipeline.topics.scored))
    return found


def served(ends: Mapping[int, int]) -> list[int]:
    """The partitions in which something was served, by where they end."""
    return [number for number, end in ends.items() if end]


def _rows(
    versions: list[Distribution],
    references: Mapping[int, Reference | None],
    policy: Drift,
    watermark: float,
) -> Iterator[DriftRow]:
    total = sum(cell.events for cell in versions)
    parts = np.sum([cell.parts for cell in versions], axis=0)
    fallback = sum(cell.events for cell in versions if not cell.version)
    for cell in versions:
        reference = references.get(cell.version)
        judged = judge(reference, cell, policy) if reference and cell.counts else None
        yield DriftRow(
            start=cell.start,
            span=cell.span,
            version=cell.version,
            events=cell.events,
            share=cell.events / total,
            fallback=fallback / total,
            drift=judged,
            unjudged=_why_not(cell, reference, judged, watermark) or _partly(cell, parts),
        )


def _why_not(
    cell: Distribution, reference: Reference | None, judged: BucketDrift | None, watermark: float
) -> str:
    if not cell.version:
        return "the fallback"
    if reference is None or judged is None:
        return "no reference"
    if reference.span != cell.span:
        return "its reference has other buckets"
    if math.isnan(judged.level):
        return "trained on too few buckets"
    return "not over yet" if watermark < cell.start + cell.span else ""


def _partly(cell: Distribution, everyone: Ints) -> str:
    """Whether a version served in other parts of the bucket than all versions together."""
    spread = np.cumsum(cell.parts) / cell.events - np.cumsum(everyone) / everyone.sum()
    allowed = _GAP + _BY_CHANCE / math.sqrt(cell.events)
    return "served in a part of it" if np.abs(spread).max() > allowed else ""


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
