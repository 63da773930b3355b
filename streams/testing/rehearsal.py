"""A pipeline run in memory, without a server: what `driftloop check` and users' own tests use.

The same code as in production (decoding, features, scoring, the late-label join) on the in-memory
adapters, one partition, in order.

    rehearsal = Rehearsal(pipeline)
    result = await rehearsal.score([{"id": "1", ...}, ...])
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from streams.adapters.memory.labels import MemoryLabelStore
from streams.adapters.memory.scorer import FixedChampion, MemoryScorer, Network
from streams.adapters.memory.state import MemoryFeatureState
from streams.errors import ConfigurationError, ModelError, NotFinite, PipelineError
from streams.labelling.processor import Labelling
from streams.ports.batches import MicroBatch, Outputs, Processor, SourceRecord
from streams.ports.features import FeatureState
from streams.records import Example, Prediction, Scored, decoder
from streams.scoring.processor import Scoring
from streams.spec import Derived, Pipeline, Transform
from streams.spec.fields import json_name
from streams.spec.functions import place_of
from streams.spec.layout import Rows, features_of


@dataclass
class Rehearsed:
    """What came out of a rehearsal."""

    predictions: list[Prediction] = field(default_factory=list)
    """What consumers get, one per event that was scored."""
    scored: list[Scored] = field(default_factory=list)
    """What was served for each: vector, score and version."""
    examples: list[Example] = field(default_factory=list)
    """What training would learn from: events that matured, with their labels."""
    dead_letters: list[dict[str, str]] = field(default_factory=list)
    """Cause, detail, topic, partition and offset of each, and its value."""


class _Network(MemoryScorer):
    """A user's function as the only version. Nobody repairs it: what it does wrong is raised."""

    async def infer(self, version: int, rows: Rows) -> NDArray[np.float32]:
        try:
            return await super().infer(version, rows)
        except NotFinite:  # these events' dead letters will say so
            return np.full((len(rows), self._outputs), np.nan, np.float32)
        except ModelError as error:
            raise PipelineError(
                "network", str(error), "return float32 [n, outputs] for [n, features]"
            ) from None


class Rehearsal:
    """Runs events and feedback through a pipeline, in memory.

    Without a network it serves the fallback, as a pipeline does before its first version. Window
    features are kept in memory unless another `state` is given.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        network: Network | None = None,
        state: FeatureState | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._state = state or MemoryFeatureState(pipeline.plan)
        threshold = 0.5 if pipeline.decision.threshold is None else pipeline.decision.threshold
        scoring = Scoring(
            pipeline,
            self._state,
            _Network({1: network} if network else {}, pipeline.model.outputs),
            FixedChampion(1 if network else 0, threshold),
            _nothing,
        )
        self._pipeline_scoring = scoring
        self._scoring = scoring.partition(0)
        self._labelling = Labelling(pipeline, 0, MemoryLabelStore, self._state, _nothing)
        self._offsets: dict[str, int] = {}
        self._keys: dict[str, bytes] = {}
        """Of the events that were scored, by id."""

    async def score(
        self, events: Iterable[Mapping[str, Any] | bytes], *, written_at: float = 0.0
    ) -> Rehearsed:
        """Score events (dictionaries, or raw JSON) as one micro-batch; the join sees what came out.

        Examples of events whose horizon has passed come out too. `written_at` (seconds since 1970)
        is the records' own timestamp, against which event times are held; 0: nobody knows it.

        Raises:
            ConfigurationError: a feature works on an event alone, and not on several at once.
        """
        await self._open()
        key = json_name(self._pipeline.event.schema, self._pipeline.event.key)
        values = [e if isinstance(e, bytes) else _json(e) for e in events]
        given = [(_key(value, key), value) for value in values]
        topics = self._pipeline.topics
        outputs = await self._run(self._scoring, topics.events, given, written_at)
        if problem := self._pipeline_scoring.halved:
            raise ConfigurationError(f"a feature fails on several events at once: {problem}")
        result = self._read(outputs)
        scored = [(key or b"", value or b"") for key, value, _ in outputs.get(topics.scored, [])]
        for (name, _), one in zip(scored, result.scored, strict=True):
            self._keys[one.event_id] = name
        joined = await self._run(self._labelling, topics.scored, scored, written_at)
        await self._labelling.commit()
        result.examples = self._read(joined).examples
        return result

    async def label(
        self, feedback: Iterable[Mapping[str, Any]], *, written_at: float = 0.0
    ) -> Rehearsed:
        """Feed labels back: `{"event_id": ..., "label": ..., "labelled_at": ...}`.

        Each is keyed as the last event of its id was; by `key` where it is given with it.
        """
        await self._open()
        given = [(self._key_of(record), _json(record)) for record in feedback]
        topic = self._pipeline.topics.feedback
        outputs = await self._run(self._labelling, topic, given, written_at)
        await self._labelling.commit()
        return self._read(outputs)

    def _key_of(self, label: Mapping[str, Any]) -> bytes:
        if "key" in label:
            return str(label["key"]).encode()
        return self._keys.get(str(label.get("event_id")), b"key")

    async def _open(self) -> None:
        if not self._offsets:  # nothing was run yet
            await self._labelling.open({})

    async def _run(
        self,
        processor: Processor,
        topic: str,
        given: Sequence[tuple[bytes, bytes]],
        written_at: float,
    ) -> Outputs:
        first = self._offsets.get(topic, 0)
        records: list[SourceRecord] = [
            _Record(topic, first + i, key, value, timestamp=round(written_at * 1000))
            for i, (key, value) in enumerate(given)
        ]
        self._offsets[topic] = first + len(records)
        if not records:
            return {}
        return await processor.process(MicroBatch(topic, 0, records, first, first))

    def _read(self, outputs: Outputs) -> Rehearsed:
        topics = self._pipeline.topics
        letters = [
            {name: (value or b"").decode(errors="replace") for name, value in headers}
            | {"value": (value or b"").decode(errors="replace")}
            for _, value, headers in outputs.get(topics.dead_letters, [])
        ]
        return Rehearsed(
            predictions=_decode(outputs, topics.predictions, Prediction),
            scored=_decode(outputs, topics.scored, Scored),
            examples=_decode(outputs, topics.examples, Example),
            dead_letters=letters,
        )


async def check_alone(
    pipeline: Pipeline, events: Sequence[Mapping[str, Any] | bytes], together: Rehearsed
) -> None:
    """Hold what transforms make of events, one after the other, against what they made together.

    Raises:
        ConfigurationError: an event's number depends on what else is in its batch, or on chance.
    """
    transforms = [one for one in pipeline.computed if isinstance(one, Transform | Derived)]
    if not transforms:
        return
    rehearsal, found = Rehearsal(pipeline), dict[str, Any]()
    for event in events:
        alone = await rehearsal.score([event])
        found |= {one.event_id: _features(pipeline, one) for one in alone.scored}
    for one in together.scored[: len(found)]:
        vector, other = _features(pipeline, one), found.get(one.event_id)
        for feature in transforms:
            at = pipeline.feature_names.index(feature.name)
            if other is None or not np.isclose(vector[at], other[at], rtol=1e-4):
                said = "none" if other is None else f"{other[at]:g}"
                place = place_of(feature.function) or "the pipeline"
                raise ConfigurationError(
                    f"{place}: features.{feature.name}: an event gets {vector[at]:g} among others "
                    f"and {said} alone - compute it from the event's own fields, without chance"
                )


def _features(pipeline: Pipeline, served: Scored) -> NDArray[np.float32]:
    [vector] = features_of(pipeline.layout.unpack([served.vector]))
    return np.asarray(vector)


def _decode(outputs: Outputs, topic: str, record: type[msgspec.Struct]) -> list[Any]:
    decode = decoder(record).decode
    return [decode(value or b"") for _, value, _ in outputs.get(topic, [])]


def _json(record: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(record)
    except TypeError:  # a whole number of more than 64 bits
        return json.dumps(record).encode()


def _key(value: bytes, name: str) -> bytes:
    try:
        return str(orjson.loads(value)[name]).encode()
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return base64.b64encode(value[:8]) or b"?"


@dataclass(frozen=True)
class _Record:
    """A `SourceRecord`."""

    topic: str
    offset: int
    key: bytes
    value: bytes
    partition: int = 0
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


async def _nothing(
    topic: str, partition: int, first: int, end: int
) -> AsyncIterator[list[SourceRecord]]:
    del topic, partition, first, end
    return
    yield
