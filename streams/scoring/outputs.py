"""The records that events become: predictions, and what was served."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from streams.ports.batches import NO_HEADERS, OutputRecord
from streams.records import ARMS, CHAMPION, WHOLE, Prediction, Scored, encode
from streams.scoring.decoded import Decoded
from streams.scoring.ranking import Ranking, logged, rankings, shown
from streams.scoring.served import ServedScores
from streams.spec import Pipeline
from streams.spec.layout import Rows

_timestamp = attrgetter("timestamp")


def written(
    pipeline: Pipeline, decoded: Decoded, rows: Rows, served: ServedScores, topic: str
) -> tuple[list[OutputRecord], list[OutputRecord]]:
    """The records of `P.predictions` and those of `P.scored`, one for each event.

    The events are of the topic of this name or id.
    """
    ranked = rankings(pipeline, decoded, served)
    predictions = _predicted(pipeline, decoded, served, topic, ranked)
    return predictions, _what_was_served(pipeline, decoded, rows, served, ranked)


def _predicted(
    pipeline: Pipeline,
    decoded: Decoded,
    served: ServedScores,
    topic: str,
    ranked: Sequence[Ranking] | None,
) -> list[OutputRecord]:
    scores, classes = _scores(served), _names(pipeline)
    versions = served.versions.tolist()
    made = [
        Prediction(
            event_id,
            at,
            score,
            decision,
            version,
            version == 0,
            f"{topic}{record.partition}-{record.offset}",
            arm,
            propensity,
        )
        for record, event_id, at, score, decision, version, arm, propensity in zip(
            decoded.records,
            decoded.ids,
            decoded.times.tolist(),
            scores,
            [classes[index] for index in _decided(pipeline, served)],
            versions,
            *_arms(served),
            strict=True,
        )
    ]
    if ranked is not None:
        made = list(map(shown, made, ranked))
    return _records(decoded, made)


def _what_was_served(
    pipeline: Pipeline,
    decoded: Decoded,
    rows: Rows,
    served: ServedScores,
    ranked: Sequence[Ranking] | None,
) -> list[OutputRecord]:
    schema = pipeline.schema_hash
    made = [
        Scored(
            event_id,
            at,
            entities,
            vector,
            score,
            version,
            written,
            schema,
            decision,
            arm,
            share,
        )
        for (
            event_id,
            at,
            entities,
            vector,
            score,
            version,
            written,
            decision,
            arm,
            share,
        ) in zip(
            decoded.ids,
            decoded.times.tolist(),
            _label_entities(pipeline, decoded),
            pipeline.layout.pack(rows),
            _scores(served),
            served.versions.tolist(),
            _written_before(decoded),
            _decided(pipeline, served),
            *_arms(served),
            strict=True,
        )
    ]
    if ranked is not None:
        made = list(map(logged, made, ranked))
    return _records(decoded, made)


def _records(decoded: Decoded, made: Sequence[Prediction | Scored]) -> list[OutputRecord]:
    """One for each event, keyed as it was."""
    return [
        (record.key, encode(one), NO_HEADERS)
        for record, one in zip(decoded.records, made, strict=True)
    ]


def _written_before(decoded: Decoded) -> list[float | None]:
    """When each event's record was written, where that was before the event's time."""
    records, times = decoded.records, decoded.times
    found: list[float | None] = [None] * len(records)
    written = np.fromiter(map(_timestamp, records), np.float64, len(records)) / 1000
    for i in np.flatnonzero((written > 0) & (written < times)).tolist():
        found[i] = float(written[i])
    return found


def _arms(served: ServedScores) -> tuple[list[str], list[float]]:
    """Of each event the name of its arm and its propensity, as records leave them out."""
    if (served.propensities == WHOLE).all():
        return [CHAMPION] * len(served.arms), [WHOLE] * len(served.arms)
    return [ARMS[arm] for arm in served.arms.tolist()], served.propensities.tolist()


def _scores(served: ServedScores) -> list[Any]:
    """Of each event its score, or one score for each class."""
    found: list[Any] = (
        served.scores[:, 0] if served.scores.shape[1] == 1 else served.scores
    ).tolist()
    return found


def _names(pipeline: Pipeline) -> tuple[str, ...]:
    """Of each decision the name; of a value, about which nothing is decided, an empty one."""
    return pipeline.decision.classes if pipeline.predicts.classes else ("",)


def _decided(pipeline: Pipeline, served: ServedScores) -> list[int]:
    """Of each event the class that is decided for, by index; 0 where nothing is decided."""
    scores, task = served.scores, pipeline.predicts
    if not task.classes:
        return [0] * len(scores)
    chosen = (
        (scores[:, 0] >= served.thresholds).astype(int)
        if task.thresholds
        else scores.argmax(axis=1)
    )
    found: list[int] = chosen.tolist()
    return found


def _label_entities(pipeline: Pipeline, decoded: Decoded) -> list[dict[str, str]]:
    """For each event the entities that take its label, by key field."""
    keys = pipeline.plan.label_keys
    if not keys:
        return [{}] * len(decoded.ids)
    if len(keys) == 1:  # the usual case, in a third of the time
        [key] = keys
        return [{key: name} for name in decoded.entities[key]]
    columns = [decoded.entities[key] for key in keys]
    return [dict(zip(keys, names, strict=True)) for names in zip(*columns, strict=True)]
