"""Training examples: exact offset ranges of `P.examples`, read into columns."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray

from streams.errors import ConfigurationError, OffsetsMissing, TrainingError
from streams.kafka.reading import read_exactly
from streams.ports.batches import SourceRecord
from streams.records import Example
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.candidates import padded
from streams.spec.layout import Rows, features_of
from streams.spec.tasks import Task
from streams.spec.times import LATEST
from streams.versions import Logged, Pick

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class OffsetRanges:
    """Offsets [first, next) of `P.examples`, by partition."""

    ranges: Mapping[int, tuple[int, int]]

    @property
    def size(self) -> int:
        """Offsets covered: an upper bound of the examples."""
        return sum(max(0, after - first) for first, after in self.ranges.values())

    def offsets(self, topic: str) -> dict[str, list[int]]:
        """As a manifest names it: `<topic>-<partition>` -> [first, next)."""
        return {f"{topic}-{p}": list(span) for p, span in sorted(self.ranges.items())}

    @staticmethod
    def from_offsets(topic: str, offsets: Mapping[str, Sequence[int]]) -> OffsetRanges:
        """The inverse of `offsets`."""
        return parse_ranges(topic, ",".join(f"{k}:{a}-{b}" for k, (a, b) in offsets.items()))


def parse_ranges(topic: str, text: str) -> OffsetRanges:
    """`P.examples-0:100-2000,P.examples-1:90-1800` as ranges; the topic may be left out.

    Raises:
        ConfigurationError: it is not written like that.
    """
    ranges: dict[int, tuple[int, int]] = {}
    for part in text.split(","):
        match = re.fullmatch(rf"(?:{re.escape(topic)}-)?(\d+):(\d+)-(\d+)", part.strip())
        if match is None or int(match[2]) > int(match[3]) or int(match[1]) in ranges:
            raise ConfigurationError(
                f"{part.strip()!r} is not an offset range - write {topic}-0:100-2000: "
                "partition, first offset, and the offset after the last; each partition once"
            )
        ranges[int(match[1])] = (int(match[2]), int(match[3]))
    return OffsetRanges(ranges)


@dataclass(frozen=True)
class Examples:
    """Examples in columns, in the order of (event time, event id); each event id once."""

    event_id: NDArray[np.object_]
    key: NDArray[np.object_]
    event_time: NDArray[np.float64]
    """[n] seconds since 1970 (UTC)."""
    rows: Rows
    """[n] as served."""
    label: NDArray[np.float32]
    """[n]; of a ranking [n, most], NaN where there is no candidate."""
    labelled_at: NDArray[np.float64]
    version: NDArray[np.int64]
    """[n] the version that scored it."""
    score: NDArray[np.float32]
    """[n, outputs] as served; of a ranking 0 where there is no candidate."""
    origin: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.event_time)

    @property
    def vector(self) -> NDArray[np.float32]:
        """[n, features] of the rows."""
        return features_of(self.rows)

    def between(self, start: float, end: float) -> Examples:
        """The examples with event time in [start, end)."""
        first, after = np.searchsorted(self.event_time, [start, end])
        return self.take(slice(int(first), int(after)))

    def followed_by(self, later: Examples) -> Examples:
        """These, and then those of a later slice."""
        return Examples(
            **{
                name: np.concatenate([getattr(self, name), getattr(later, name)])
                for name in self.__dataclass_fields__
            }
        )

    def taken(self, pick: Pick) -> Examples:
        """The examples as a version sees them that takes so much of a row."""
        return replace(self, rows=pick.of(self.rows))

    def take(self, rows: slice | NDArray[Any]) -> Examples:
        """The examples of these rows."""
        return Examples(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Reading:
    """What the offsets held."""

    examples: Examples
    watermark: float
    """Labels are mature up to this event time: the least of the partitions' largest event times;
    0 where there are no examples."""


def columns(found: Sequence[Example], pipeline: Pipeline, logged: Logged | None = None) -> Examples:
    """Records, in the order in which they were written, as columns.

    A later record for an event replaces an earlier one; an event is told by its key and its id.
    Rows that were logged before the pipeline changed are left out, but for those that hold all
    that its own do: `logged` tells, and without it only its own can be read.
    """
    task, logged = pipeline.predicts, logged or Logged(pipeline)
    readable = [one for one in found if logged.readable(one.schema, one.vector)]
    latest = {(one.key, one.event_id): one for one in readable}
    skipped = len(found) - len(readable)
    if skipped:
        log.warning(
            "examples whose vectors mean something else left out",
            examples=skipped,
            schema=pipeline.schema_hash,
        )
    kept = sorted(latest.values(), key=lambda example: (example.event_time, example.event_id))
    examples = Examples(
        event_id=_objects([example.event_id for example in kept]),
        key=_objects([example.key for example in kept]),
        event_time=np.array([example.event_time for example in kept], np.float64),
        rows=logged.rows([(example.schema, example.vector) for example in kept]),
        label=_labels(task, kept),
        labelled_at=np.array([example.labelled_at for example in kept], np.float64),
        version=np.array([example.version for example in kept], np.int64),
        score=_scores(task, [example.score for example in kept]),
        origin=_objects([example.origin for example in kept]),
    )
    finite = np.asarray(np.isfinite(examples.vector).all(axis=1))
    if finite.all():
        return examples
    log.error("passing over examples that are not finite", examples=int((~finite).sum()))
    return examples.take(finite)


T = TypeVar("T")


def decode_many(
    records: Iterable[SourceRecord], kind: type[T], sound: Callable[[T], bool]
) -> list[tuple[SourceRecord, T]]:
    """Records and what they say; all at once, which is several times faster than one by one.

    What is no record of this kind, or is not sound, is passed over and counted in the log. A
    tombstone says that an example was erased, and is passed over too.
    """
    written = [record for record in records if record.value is not None]
    try:
        found = msgspec.json.decode(
            b"[" + b",".join(record.value or b"" for record in written) + b"]",
            type=list[kind],  # type: ignore[valid-type]
        )
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        found = []
    if len(found) == len(written):
        pairs = list(zip(written, found, strict=True))
    else:
        pairs = [pair for record in written if (pair := _decode_one(record, kind)) is not None]
    good = [(record, one) for record, one in pairs if sound(one)]
    if len(good) < len(written):
        kept = {id(record) for record, _ in good}
        first = next(record for record in written if id(record) not in kept)
        log.error(
            "passing over records that are no examples",
            records=len(written) - len(good),
            topic=first.topic,
            partition=first.partition,
            first=first.offset,
        )
    return good


def _decode_one(record: SourceRecord, kind: type[T]) -> tuple[SourceRecord, T] | None:
    try:
        return record, msgspec.json.decode(record.value or b"", type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def decode(records: Iterable[SourceRecord]) -> list[Example]:
    """The examples in records."""
    return [example for _, example in decode_many(records, Example, is_dated)]


class _Dated(Protocol):
    @property
    def event_time(self) -> float: ...

    @property
    def label(self) -> float: ...


def is_dated(example: _Dated) -> bool:
    """Whether event time and label are numbers that an example can have."""
    return 0 < example.event_time <= LATEST and math.isfinite(example.label)


async def read_examples(
    settings: Settings, pipeline: Pipeline, wanted: OffsetRanges, logged: Logged | None = None
) -> Reading:
    """The examples of these offsets, the same whenever they are read.

    Raises:
        TrainingError: some of these offsets are not in the topic (any more).
        Unavailable: no broker answers.
    """
    found: list[Example] = []
    latest: dict[int, float] = {}
    try:
        async for records in read_exactly(settings, pipeline.topics.examples, wanted.ranges):
            if records:
                examples, partition = decode(records), records[0].partition
                newest = max((example.event_time for example in examples), default=0.0)
                latest[partition] = max(newest, latest.get(partition, newest))
                found += examples
    except OffsetsMissing as error:
        raise TrainingError(str(error)) from None
    kept = columns(found, pipeline, logged)
    return Reading(kept, min(latest.values(), default=0.0))


def _labels(task: Task, examples: Sequence[Example]) -> NDArray[np.float32]:
    if task.ranks:
        return padded([one.labels for one in examples], task.outputs, math.nan)
    return np.array([one.label for one in examples], np.float32)


def _scores(task: Task, scores: Sequence[float | list[float]]) -> NDArray[np.float32]:
    """One score per output; NaN where another number of outputs was served."""
    found, outputs = [one if isinstance(one, list) else [one] for one in scores], task.outputs
    if task.ranks:
        return padded(found, outputs, 0.0)
    sound = [one if len(one) == outputs else [math.nan] * outputs for one in found]
    return np.array(sound, np.float32).reshape(-1, outputs)


def _objects(values: list[str]) -> NDArray[np.object_]:
    return np.array(values, dtype=object)
