"""Training examples: a window of `P.examples` as exact offset ranges, read into columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from streams.errors import ConfigurationError, TrainingError
from streams.records import Example, unpack
from streams.settings import Settings
from streams.spec import Pipeline
from streams.transport.clients import away, reader

log = structlog.get_logger(__name__)

_decode_many = msgspec.json.Decoder(list[Example]).decode
_SILENCE = 30.0
"""Seconds without a record after which a read is given up."""


@dataclass(frozen=True)
class Window:
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
    def from_offsets(topic: str, offsets: Mapping[str, Sequence[int]]) -> Window:
        """The inverse of `offsets`."""
        return parse_window(topic, ",".join(f"{k}:{a}-{b}" for k, (a, b) in offsets.items()))


def parse_window(topic: str, text: str) -> Window:
    """`P.examples-0:100-2000,P.examples-1:90-1800` as a window; the topic may be left out.

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
    return Window(ranges)


@dataclass(frozen=True)
class Examples:
    """Examples in columns, in the order of (event time, event id); each event id once."""

    event_id: NDArray[np.object_]
    key: NDArray[np.object_]
    event_time: NDArray[np.float64]
    """[n] seconds since 1970 (UTC)."""
    vector: NDArray[np.float32]
    """[n, features] as served."""
    label: NDArray[np.float32]
    labelled_at: NDArray[np.float64]
    version: NDArray[np.int64]
    """[n] the version that scored it."""
    score: NDArray[np.float32]
    """[n, outputs] as served."""
    origin: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.event_time)

    def between(self, start: float, end: float) -> Examples:
        """The examples with event time in [start, end)."""
        first, after = np.searchsorted(self.event_time, [start, end])
        return self.take(slice(int(first), int(after)))

    def take(self, rows: slice | NDArray[Any]) -> Examples:
        """The examples of these rows."""
        return Examples(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Reading:
    """What a window held."""

    examples: Examples
    watermark: float
    """Labels are mature up to this event time: the least of the partitions' largest event times;
    0 where there are no examples."""


def columns(found: Sequence[Example], features: int, outputs: int) -> Examples:
    """Records, in the order in which they were written, as columns.

    A later record for an event replaces an earlier one. Vectors of another width were served
    before the pipeline's features changed: they are left out.
    """
    width = features * np.dtype(np.float32).itemsize
    latest = {example.event_id: example for example in found if len(example.vector) == width}
    skipped = sum(len(example.vector) != width for example in found)
    if skipped:
        log.warning("examples of other features left out", examples=skipped, features=features)
    kept = sorted(latest.values(), key=lambda example: (example.event_time, example.event_id))
    return Examples(
        event_id=_objects([example.event_id for example in kept]),
        key=_objects([example.key for example in kept]),
        event_time=np.array([example.event_time for example in kept], np.float64),
        vector=unpack([example.vector for example in kept]).reshape(-1, features),
        label=np.array([example.label for example in kept], np.float32),
        labelled_at=np.array([example.labelled_at for example in kept], np.float64),
        version=np.array([example.version for example in kept], np.int64),
        score=np.array([_scores(example.score, outputs) for example in kept], np.float32).reshape(
            -1, outputs
        ),
        origin=_objects([example.origin for example in kept]),
    )


def decode(records: Iterable[ConsumerRecord]) -> list[Example]:
    """The examples in records; all at once, which is several times faster than one by one."""
    return _decode_many(b"[" + b",".join(record.value for record in records) + b"]")


async def read_examples(settings: Settings, pipeline: Pipeline, window: Window) -> Reading:
    """The examples of a window, the same whenever it is read.

    Raises:
        TrainingError: some of these offsets are not in the topic (any more).
        Unavailable: no broker answers.
    """
    topic = pipeline.topics.examples
    consumer = reader(settings, start="none")
    try:
        await consumer.start()
        spans = {TopicPartition(topic, p): span for p, span in sorted(window.ranges.items())}
        await _check_offsets(consumer, spans)
        # one by one: a fixed order
        found = [await _read(consumer, partition, *span) for partition, span in spans.items()]
    except KafkaError as error:
        raise away(settings, error) from None
    finally:
        await consumer.stop()
    latest = [max(example.event_time for example in part) for part in found if part]
    everything = [example for part in found for example in part]
    examples = columns(everything, len(pipeline.feature_names), pipeline.model.outputs)
    return Reading(examples, min(latest, default=0.0))


async def _check_offsets(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, tuple[int, int]]
) -> None:
    starts = await consumer.beginning_offsets(list(spans))
    ends = await consumer.end_offsets(list(spans))
    for partition, (first, after) in spans.items():
        if first < after and not starts[partition] <= first <= after <= ends[partition]:
            raise TrainingError(
                f"{partition.topic}-{partition.partition}:{first}-{after} is not in the topic, "
                f"which holds {starts[partition]}-{ends[partition]} - choose offsets in that range"
            )


async def _read(
    consumer: AIOKafkaConsumer, partition: TopicPartition, first: int, after: int
) -> list[Example]:
    if first >= after:
        return []
    consumer.assign([partition])
    consumer.seek(partition, first)
    found: list[Example] = []
    waited = 0.0
    while await consumer.position(partition) < after:
        batch = (await consumer.getmany(partition, timeout_ms=1000, max_records=8192)).get(
            partition, []
        )
        waited = 0.0 if batch else waited + 1.0
        if waited > _SILENCE:
            raise TrainingError(
                f"{partition.topic}-{partition.partition} gives nothing at offset "
                f"{await consumer.position(partition)} - is a transaction left open?"
            )
        found += decode(record for record in batch if record.offset < after)
    return found


def _scores(score: float | list[float], outputs: int) -> list[float]:
    """One score per output; NaN where another number of outputs was served."""
    scores = score if isinstance(score, list) else [score]
    return scores if len(scores) == outputs else [float("nan")] * outputs


def _objects(values: list[str]) -> NDArray[np.object_]:
    return np.array(values, dtype=object)
